package invariants

import "testing"

func TestMangle(t *testing.T) {
	b := []byte("lent")
	Mangle(b)
	if changed := string(b) != "lent"; changed != Enabled {
		t.Fatalf("mangled: %v, want %v", changed, Enabled)
	}
}
