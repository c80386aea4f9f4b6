package labels

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
)

// The canonical form is what a remote write 1.0 sender puts on the wire.
func TestAppendIsRemoteWrite(t *testing.T) {
	for _, ls := range [][]prompb.Label{
		{},
		{{Name: "__name__", Value: "up"}},
		{{Name: "a", Value: strings.Repeat("v", 200)}, {Name: strings.Repeat("n", 130), Value: "größe"}},
		{{Name: "b", Value: strings.Repeat("x", 20_000)}},
	} {
		want, err := (&prompb.TimeSeries{Labels: ls}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var got []byte
		for _, l := range ls {
			got = Append(got, l.Name, l.Value)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d labels: got %x, want %x", len(ls), got, want)
		}
		for _, l := range ls {
			name, value, rest, err := Next(got)
			if err != nil || string(name) != l.Name || string(value) != l.Value {
				t.Fatalf("next: %q=%q, %v, want %q=%q", name, value, err, l.Name, l.Value)
			}
			got = rest
		}
		if len(got) != 0 {
			t.Errorf("%d bytes left over", len(got))
		}
	}
}

func TestHashTellsSeriesApart(t *testing.T) {
	a := HashCanonical(Append(nil, "a", "bc"))
	if b := HashCanonical(Append(nil, "ab", "c")); a == b {
		t.Error("different labels, same hash")
	}
	if b := HashCanonical(Append(nil, "a", "bc")); a != b {
		t.Error("same labels, different hash")
	}
}

// FuzzNext walks hostile bytes: labels or ErrNotCanonical, and what was read
// can be written again.
func FuzzNext(f *testing.F) {
	f.Add(Append(Append(nil, "a", "b"), "c", "d"))
	f.Add([]byte("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			name, value, rest, err := Next(b)
			if err != nil {
				if !errors.Is(err, ErrNotCanonical) {
					t.Fatal(err)
				}
				return
			}
			if again := Append(nil, string(name), string(value)); len(again) > len(b)-len(rest) {
				t.Fatalf("label of %d bytes became %d", len(b)-len(rest), len(again))
			}
			b = rest
		}
	})
}
