package influx

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/influxdata/line-protocol/v2/lineprotocol"
)

// benchBody is what Telegraf's cpu input makes: 10 fields a line.
func benchBody() (body []byte, fields int) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "cpu,cpu=cpu%d,datacenter=eu-west-1,host=web-%04d.example.org,rack=r%d ", i%16, i/16, i%7)
		for k, name := range []string{"usage_guest", "usage_guest_nice", "usage_idle", "usage_iowait", "usage_irq", "usage_nice", "usage_softirq", "usage_steal", "usage_system", "usage_user"} {
			if k > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "%s=%v", name, float64(i*k%1000)/10.3)
			fields++
		}
		b.WriteString(" 1700000000000000000\n")
	}
	return []byte(b.String()), fields
}

func perField(b *testing.B, fields int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(fields), "ns/field")
}

func BenchmarkParse(b *testing.B) {
	body, fields := benchBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var p parser
	for b.Loop() {
		p.reset(body)
		for p.next() {
			if err := p.line(); err != nil {
				b.Fatal(err)
			}
		}
	}
	perField(b, fields)
}

// BenchmarkParseAndMap makes the remote write request, uncompressed, too.
func BenchmarkParseAndMap(b *testing.B) {
	body, fields := benchBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	s := &write{mapper: newMapper(DefaultConfig())}
	for b.Loop() {
		s.builder.Reset()
		s.parser.reset(body)
		for s.parser.next() {
			s.line("telegraf", precision{1, 1e6}, 0)
		}
	}
	perField(b, fields)
}

func BenchmarkLibraryDecoder(b *testing.B) {
	body, fields := benchBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		d := lineprotocol.NewDecoderWithBytes(body)
		for d.Next() {
			if _, err := d.Measurement(); err != nil {
				b.Fatal(err)
			}
			for {
				key, _, err := d.NextTag()
				if err != nil {
					b.Fatal(err)
				}
				if key == nil {
					break
				}
			}
			for {
				key, _, err := d.NextField()
				if err != nil {
					b.Fatal(err)
				}
				if key == nil {
					break
				}
			}
			if _, err := d.Time(lineprotocol.Nanosecond, time.Time{}); err != nil {
				b.Fatal(err)
			}
		}
	}
	perField(b, fields)
}
