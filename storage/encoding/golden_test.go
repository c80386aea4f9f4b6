package encoding

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// dumper cuts a payload into fields and names them.
type dumper struct {
	out bytes.Buffer
	src []byte
	pos int
}

func (d *dumper) field(n int, format string, args ...any) []byte {
	part := d.src[d.pos : d.pos+n]
	for at := 0; at == 0 || at < n; at += 16 {
		if at == 48 { // enough to look at; the checksum pins the rest
			fmt.Fprintf(&d.out, "  %04d  … %d more bytes, crc32 %08x\n", d.pos+at, n-at, crc32.ChecksumIEEE(part[at:]))
			break
		}
		line := part[at:min(at+16, n)]
		if at == 0 {
			fmt.Fprintf(&d.out, "  %04d  %-48s %s\n", d.pos, fmt.Sprintf("% x", line), fmt.Sprintf(format, args...))
		} else {
			fmt.Fprintf(&d.out, "  %04d  % x\n", d.pos+at, line)
		}
	}
	d.pos += n
	return part
}

func (d *dumper) varint(name string) int64 {
	v, n := varint(d.src[d.pos:])
	d.field(n, "%s %d", name, v)
	return v
}

func (d *dumper) uvarint(name string) int {
	v, n := binary.Uvarint(d.src[d.pos:])
	d.field(n, "%s %d", name, v)
	return int(v)
}

func (d *dumper) byte(name string) byte {
	v := d.src[d.pos]
	d.field(1, "%s %d", name, v)
	return v
}

func (d *dumper) rest(name string) {
	if d.pos < len(d.src) {
		d.field(len(d.src)-d.pos, "%s", name)
	}
}

// dumpColumn annotates a payload of n values as docs/format/encoding.md draws it.
func dumpColumn(src []byte, c Codec, n int) string {
	d := &dumper{src: src}
	if c < codecColumn {
		d.rest(c.String())
		return d.out.String()
	}
	if c.transform() != transformInt {
		d.byte("scale")
	}
	if c.transform() == transformExcept {
		for range d.uvarint("exceptions") {
			d.uvarint("  gap")
			if d.byte("  kind") == exceptBits {
				d.field(8, "  bits")
			}
		}
	}
	if c.coder() == coderVarint {
		for i := range n {
			d.varint(fmt.Sprintf("delta %d:", i))
		}
		return d.out.String()
	}
	if c.shifted() {
		d.byte("shift")
	}
	d.varint("first")
	if c.order() == 2 {
		d.varint("second - first")
	}
	switch c.coder() {
	case coderPacked:
		d.varint("base")
		d.byte("width")
		d.rest("numbers")
	case coderClass:
		head := d.byte("head")
		d.byte("low")
		if head&classZigzag == 0 {
			d.varint("base")
		}
		if head&classBitmap != 0 {
			d.field((n-max(c.order(), 1)+7)/8, "bitmap")
		}
		d.rest("symbols and bits below")
	case coderSparse:
		d.uvarint("count")
		d.byte("rice")
		d.varint("base")
		d.byte("width")
		d.rest("gaps and residuals")
	}
	return d.out.String()
}

// TestGolden pins the bytes: a change here is a change of the format, and needs
// a new codec value instead.
func TestGolden(t *testing.T) {
	var out strings.Builder
	var s Scratch
	cases := floatCases()
	delete(cases, "wide floats") // math.Exp differs between machines in the last bit
	names := make([]string, 0, len(cases))
	for name := range cases {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		payload, c := AppendFloats(nil, cases[name], &Scratch{})
		fmt.Fprintf(&out, "floats %q: %d values, codec %#02x %s, %d bytes\n%s\n", name, len(cases[name]), uint8(c), c, len(payload), dumpColumn(payload, c, len(cases[name])))
	}
	times := timeCases()
	names = names[:0]
	for name := range times {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		payload, c := AppendTimes(nil, times[name], &s)
		fmt.Fprintf(&out, "times %q: %d values, codec %#02x %s, %d bytes\n%s\n", name, len(times[name]), uint8(c), c, len(payload), dumpColumn(payload, c, len(times[name])))
	}
	for _, name := range []string{"custom", "few", "negative", "stale"} {
		hs := histogramCases()[name]
		payload, c := AppendHistograms(nil, hs, &s)
		d := &dumper{src: payload}
		d.rest(c.String())
		fmt.Fprintf(&out, "histograms %q: %d samples, codec %#02x %s, %d bytes\n%s\n", name, len(hs), uint8(c), c, len(payload), d.out.String())
	}
	const path = "testdata/columns.golden"
	if *rewrite {
		if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(wanted)) {
		if got[i] != wanted[i] {
			t.Fatalf("%s:%d:\ngot  %s\nwant %s", path, i+1, got[i], wanted[i])
		}
	}
	if len(got) != len(wanted) {
		t.Fatalf("%s: got %d lines, want %d", path, len(got), len(wanted))
	}
}

// TestLadder pins the codec bytes.
func TestLadder(t *testing.T) {
	for c, want := range map[Codec]string{
		0: "invalid", 1: "zero", 2: "const-int", 3: "const-dec", 4: "const-bits", 5: "raw", 6: "histograms", 7: "histograms-zstd",
		8: "codec(0x8)",
		columnCodec(0, transformInt, coderPacked, 0):    "int/packed/order0",
		columnCodec(2, transformScaled, coderClass, 0):  "scaled/class/order2",
		columnCodec(1, transformExcept, coderSparse, 3): "except/sparse/order1/shift",
		Codec(0b1_01_00_11_0):                           "int/varint/order1",
		Codec(0b1_10_10_01_1):                           "except/class/order2/shift",
	} {
		if got := c.String(); got != want {
			t.Errorf("codec %#02x: got %s, want %s", uint8(c), got, want)
		}
	}
}

// TestShapes checks that every prefix code is complete: any byte decodes, and
// no code stands in front of another.
func TestShapes(t *testing.T) {
	for i := range shapes {
		sum := 0
		for symbol, l := range shapes[i].lens {
			if l < 1 || l > shapeMaxLen {
				t.Fatalf("shape %d, symbol %d: %d bits", i, symbol, l)
			}
			sum += 1 << (shapeMaxLen - l)
			if e := shapes[i].table[shapes[i].codes[symbol]]; int(e>>4) != symbol || e&15 != l {
				t.Fatalf("shape %d, symbol %d: table has symbol %d of %d bits", i, symbol, e>>4, e&15)
			}
		}
		if sum != 1<<shapeMaxLen {
			t.Fatalf("shape %d: code covers %d of %d", i, sum, 1<<shapeMaxLen)
		}
	}
}

// TestColumnsRandom round-trips columns of every size, step and outlier.
func TestColumnsRandom(t *testing.T) {
	var s Scratch
	for seed := range uint64(3000) {
		vals := randomColumn(seed)
		payload, c := checkFloats(t, vals, &s)
		if again, c2 := AppendFloats(nil, vals, &Scratch{}); c != c2 || !bytes.Equal(again, payload) {
			t.Fatalf("seed %d: a fresh Scratch encodes %s, a used one %s", seed, c2, c)
		}
	}
}
