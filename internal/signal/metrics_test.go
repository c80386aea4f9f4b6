package signal

import (
	"reflect"
	"testing"
)

// Reset empties every column, those that are added later too.
func TestResetEmptiesEveryColumn(t *testing.T) {
	var m Metrics
	v := reflect.ValueOf(&m).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Slice {
			f.Set(reflect.MakeSlice(f.Type(), 3, 8))
		} else {
			f.SetString("a tenant")
		}
	}
	m.Reset()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		if f.Len() != 0 {
			t.Errorf("%s has length %d after Reset", name, f.Len())
		}
		if f.Kind() == reflect.Slice && f.Cap() != 8 {
			t.Errorf("%s has capacity %d after Reset, want 8", name, f.Cap())
		}
	}
}

func TestRejectedCountsWhatASenderShouldHear(t *testing.T) {
	r := AppendResult{Appended: 100, Duplicates: 10, Conflicts: 1, TooOld: 2, OutOfBounds: 3, SeriesLimit: 4}
	if got := r.Rejected(); got != 10 {
		t.Errorf("rejected %d, want 10", got)
	}
}
