package influx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
	"github.com/stretchr/testify/require"
)

// render prints a parsed line: measurement|tags|fields|strings|time.
func (p *parser) render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|", p.measurement.b)
	for i, t := range p.tags {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%s", t.key.b, t.value.b)
	}
	b.WriteByte('|')
	for i, f := range p.fields {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s=%v", f.key.b, f.value)
	}
	fmt.Fprintf(&b, "|%d|", p.strings)
	if p.hasTime {
		fmt.Fprint(&b, p.time)
	}
	return b.String()
}

// parseAll renders every line, or its error.
func parseAll(body string) []string {
	var p parser
	p.reset([]byte(body))
	var out []string
	for p.next() {
		if err := p.line(); err != nil {
			out = append(out, "! "+err.Error())
			continue
		}
		out = append(out, p.render())
	}
	return out
}

func TestParse(t *testing.T) {
	f := func(body string, want ...string) {
		t.Helper()
		require.Equal(t, want, parseAll(body), "%q", body)
	}
	f("")
	f("\n \r\n# a comment\n\t\n")
	f(`cpu value=1`, `cpu||value=1|0|`)
	f("cpu value=1\ncpu value=2 3\n", `cpu||value=1|0|`, `cpu||value=2|0|3`)
	f("cpu value=1 5\r\ncpu value=2\r\n\r\ncpu value=3 \r\n", `cpu||value=1|0|5`, `cpu||value=2|0|`, `cpu||value=3|0|`)
	f(`cpu,host=a,region=b idle=1,user=2.5 -1700000000000000000`, `cpu|host=a,region=b|idle=1,user=2.5|0|-1700000000000000000`)
	f("  cpu   value=1   17  ", `cpu||value=1|0|17`)
	f(`m a=1i,b=2u,c=-3i,d=t,e=F,f=True,g=false,h="x"`, `m||a=1,b=2,c=-3,d=1,e=0,f=1,g=0|1|`)
	f(`m a=1e3,b=1.5E-2,c=-.5,d=1.,e=1e+2,f=-0`, `m||a=1000,b=0.015,c=-0.5,d=1,e=100,f=-0|0|`)
	f(`m a=9223372036854775807i,b=18446744073709551615u,c=-9223372036854775808i`,
		`m||a=9.223372036854776e+18,b=1.8446744073709552e+19,c=-9.223372036854776e+18|0|`)

	// Escapes.
	f(`my\ mea\,sure=ment,ta\ g\,k\=ey=va\ l\,u\=e fi\ e\,l\=d=1`, `my mea,sure=ment|ta g,k=ey=va l,u=e|fi e,l=d=1|0|`)
	f(`C:\dir\file,path=C:\x\\y va\lue=1`, `C:\dir\file|path=C:\x\\y|va\lue=1|0|`)
	f(`m\\,t=v f=1`, `m\,t=v||f=1|0|`)
	f(`m,t=a\ f=1`, `! invalid tag format`) // the space is escaped
	f(`m s="a \"quoted\" \\ text, with = and
a line end",v=1 7`+"\nn v=2", `m||v=1|1|7`, `n||v=2|0|`)
	f(`m s="",v=1`, `m||v=1|1|`)
	f("größe,stadt=Köln höhe=1", "größe|stadt=Köln|höhe=1|0|")
	f(`m,a=1,a=2 v=1`, `m|a=1,a=2|v=1|0|`) // the mapper refuses it
	f(`m,a=,b=2 v=1`, `m|b=2|v=1|0|`)      // no value, no tag

	// What InfluxDB refuses. The rest is kept.
	f("good v=1\nbad\ngood v=2", `good||v=1|0|`, `! missing fields`, `good||v=2|0|`)
	f(`,a=b v=1`, `! missing measurement`)
	f(`m `, `! missing fields`)
	f(`m,a=b`, `! missing fields`)
	f(`m, v=1`, `! missing tag key`)
	f(`m,=b v=1`, `! missing tag key`)
	f(`m,a v=1`, `! missing tag value`)
	f(`m,a=b=c v=1`, `! invalid tag format`)
	f(`m v`, `! invalid field format`)
	f(`m v=`, `! missing field value`)
	f(`m =1`, `! missing field key`)
	f(`m v=1,`, `! missing field key`)
	f(`m v=1, w=2`, `! missing field key`)
	f(`m v=abc`, `! invalid boolean`)
	f(`m v=tru`, `! invalid boolean`)
	f(`m v=+1`, `! invalid boolean`)
	f(`m v=NaN`, `! invalid boolean`)
	f(`m v=-`, `! invalid number`)
	f(`m v=.`, `! invalid number`)
	f(`m v=1.2.3`, `! invalid number`)
	f(`m v=1e`, `! invalid number`)
	f(`m v=0x10`, `! invalid number`)
	f(`m v=1_000`, `! invalid number`)
	f(`m v=0x1000000000000000p-2`, `! invalid number`)
	f(`m v=1_000_000_000_000_000.5`, `! invalid number`)
	f(`m v=1000000000000000000.5.5`, `! invalid number`)
	f(`m v=00000000000000000000001.5,w=0.00000000000000000000001`, `m||v=1.5,w=1e-23|0|`)
	f(`m v=1e400`, `! number outside of the range of floats`)
	f(`m v=1.5i`, `! invalid integer, or one outside of 64 bits`)
	f(`m v=9223372036854775808i`, `! invalid integer, or one outside of 64 bits`)
	f(`m v=18446744073709551616u`, `! invalid integer, or one outside of 64 bits`)
	f(`m v=-1u`, `! invalid integer, or one outside of 64 bits`)
	f(`m v=1 abc`, `! bad timestamp`)
	f(`m v=1 1.5`, `! bad timestamp`)
	f(`m v=1 9223372036854775808`, `! bad timestamp`)
	f(`m v=1 5 6`, `! bad timestamp`)
	f(`m v="a"b 5`, `! invalid field format`)
	f("m v=\"a\nn v=1\n", `! unbalanced quotes`) // the string goes on to the end
	f("m v=\"a\\", `! unbalanced quotes`)
	f("m v=1\rn v=2\nn v=3", `! invalid field format`, `n||v=3|0|`)
}

func TestPrecision(t *testing.T) {
	f := func(unit string, in, want int64) {
		t.Helper()
		u, ok := precisionOf(unit)
		require.True(t, ok)
		got, err := u.millis(in)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, unit := range []string{"", "n", "ns"} {
		f(unit, 1_700_000_000_123_456_789, 1_700_000_000_123)
	}
	for _, unit := range []string{"u", "us", "µ", "µs"} {
		f(unit, 1_700_000_000_123_456, 1_700_000_000_123)
	}
	f("ms", -7, -7)
	f("s", 1_700_000_000, 1_700_000_000_000)
	f("m", 2, 120_000)
	f("h", 2, 7_200_000)
	_, ok := precisionOf("d")
	require.False(t, ok)
	u, _ := precisionOf("h")
	_, err := u.millis(math.MaxInt64 / 1000)
	require.ErrorIs(t, err, errTimeRange)
	_, err = u.millis(math.MinInt64)
	require.ErrorIs(t, err, errTimeRange)
}

// Floats are those of strconv, bit for bit.
func TestFloat(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		v := math.Float64frombits(r.Uint64())
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		if r.IntN(2) == 0 {
			v = float64(r.IntN(1e9)) / math.Pow10(r.IntN(12))
		}
		for _, format := range []byte("gfe") {
			text := fmt.Sprintf("%"+string(format), v)
			if format == 'g' {
				text = fmt.Sprintf("%v", v)
			}
			var want float64
			_, err := fmt.Sscan(text, &want)
			require.NoError(t, err)
			got, err := float([]byte(text))
			require.NoError(t, err, text)
			require.Equal(t, math.Float64bits(want), math.Float64bits(got), text)
		}
	}
}

// decode renders the lines of a body as InfluxData's own library reads them; ok
// is false if it refuses one.
func decode(body []byte) (out []string, ok bool) {
	d := lineprotocol.NewDecoderWithBytes(body)
	for d.Next() {
		var p parser
		m, err := d.Measurement()
		if err != nil {
			return nil, false
		}
		p.measurement.b = append([]byte{}, m...)
		for {
			k, v, err := d.NextTag()
			if err != nil {
				return nil, false
			}
			if k == nil {
				break
			}
			p.tags = append(p.tags, tag{text{b: append([]byte{}, k...)}, text{b: append([]byte{}, v...)}})
		}
		for {
			k, v, err := d.NextField()
			if err != nil {
				return nil, false
			}
			if k == nil {
				break
			}
			f := field{key: text{b: append([]byte{}, k...)}}
			switch v.Kind() {
			case lineprotocol.String:
				p.strings++
				continue
			case lineprotocol.Bool:
				if v.BoolV() {
					f.value = 1
				}
			case lineprotocol.Int:
				f.value = float64(v.IntV())
			case lineprotocol.Uint:
				f.value = float64(v.UintV())
			case lineprotocol.Float:
				f.value = v.FloatV()
			}
			p.fields = append(p.fields, f)
		}
		ts, err := d.Time(lineprotocol.Nanosecond, time.Unix(0, 0))
		if err != nil {
			return nil, false
		}
		// The default time cannot be told from a time of 0 here, so all tests have one.
		p.time, p.hasTime = ts.UnixNano(), true
		out = append(out, p.render())
	}
	return out, true
}

// What the library's encoder writes, the decoder and we read alike.
func TestLikeLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	alphabet := []rune(`abcXYZ019 ,=\"._-:/#äß漢` + "\t")
	word := func(min int, noTrailing bool) string {
		for {
			var b strings.Builder
			for range min + r.IntN(8) {
				b.WriteRune(alphabet[r.IntN(len(alphabet))])
			}
			s := b.String()
			if noTrailing && (strings.HasSuffix(s, `\`) || strings.HasPrefix(s, "#") || strings.ContainsRune(s, '\t')) {
				continue
			}
			return s
		}
	}
	for range 3000 {
		var e lineprotocol.Encoder
		e.SetPrecision(lineprotocol.Nanosecond)
		for range 1 + r.IntN(4) {
			e.StartLine(word(1, true))
			keys := map[string]bool{}
			for range r.IntN(5) {
				keys[word(1, true)] = true
			}
			sorted := make([]string, 0, len(keys))
			for k := range keys {
				sorted = append(sorted, k)
			}
			sort.Strings(sorted)
			for _, k := range sorted {
				e.AddTag(k, word(1, true))
			}
			for range 1 + r.IntN(4) {
				values := []any{r.NormFloat64() * math.Pow10(r.IntN(40)-20), r.Int64(), -r.Int64(), r.Uint64(), r.IntN(2) == 0, word(0, false) + "\n" + word(0, false)}
				v, ok := lineprotocol.NewValue(values[r.IntN(len(values))])
				require.True(t, ok)
				e.AddField(word(1, true), v)
			}
			e.EndLine(time.Unix(0, r.Int64()))
		}
		require.NoError(t, e.Err())
		want, ok := decode(e.Bytes())
		require.True(t, ok, "%q", e.Bytes())
		require.Equal(t, want, parseAll(string(e.Bytes())), "%q", e.Bytes())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"cpu,host=a value=1 17\n", `m\ m,t\,=\=v a="x\"\n",b=1i,c=2u,d=t 5`, "# c\r\nm v=1e5 1\r\n", "m,a=,b=1 v=-0.5", "m v=\"\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var p parser
		p.reset([]byte(body))
		for p.next() {
			start := p.i
			if err := p.line(); p.i <= start {
				t.Fatalf("stands still at byte %d: %v", start, err)
			}
		}
		// What the library reads, we read alike, where both have the same grammar: it
		// takes hexadecimal numbers, and a white space that it does not skip.
		if strings.ContainsAny(body, "xX_\t\x00") {
			return
		}
		lines, ok := decode([]byte(body))
		if !ok {
			return
		}
		got := parseAll(body)
		if len(got) != len(lines) {
			t.Fatalf("got %q, want %q", got, lines)
		}
		for i := range got {
			if strings.HasSuffix(got[i], "|") { // no timestamp
				got[i] += "0"
			}
			if got[i] != lines[i] {
				t.Fatalf("line %d: got %q, want %q", i, got[i], lines[i])
			}
		}
	})
}
