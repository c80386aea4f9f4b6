// Package invariants holds checks that cost nothing in a normal build. Build
// or test with `-tags invariants` to switch them on.
package invariants

// Mangle overwrites b when invariants are on. Call it on bytes that were lent
// out, at the moment from which the borrower may not use them any more: who
// does so all the same then reads rubbish in a test, not one day in production.
func Mangle(b []byte) {
	if !Enabled {
		return
	}
	for i := range b {
		b[i] = 0xcc
	}
}
