package statsd

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkEvents takes in packets of 20 lines with 5 DogStatsD tags, over 1,000
// series.
func BenchmarkEvents(b *testing.B) {
	for _, c := range []struct{ name, format string }{
		{"counter", "requests.total:1|c|#env:prod,service:checkout,region:eu-west-1,code:200,instance:%d\n"},
		{"counter_bare", "requests.total.%d:1|c\n"},
		{"timer_summary", "latency:%[2]d.25|ms|#env:prod,service:checkout,region:eu-west-1,code:200,instance:%[1]d\n"},
		{"set", "users:u%[2]d|s|#env:prod,instance:%[1]d\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			const lines, series = 20, 1000
			var packets [][]byte
			for i := 0; i < series; i += lines {
				var p []byte
				for k := range lines {
					if c.name == "counter" || c.name == "counter_bare" {
						p = fmt.Appendf(p, c.format, i+k)
						continue
					}
					p = fmt.Appendf(p, c.format, i+k, (i+k)%97)
				}
				packets = append(packets, p)
			}
			cfg := DefaultConfig()
			t := newTable(&cfg, time.Now)
			var n tally
			for _, p := range packets {
				t.lines(p, &n)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				t.lines(packets[i%len(packets)], &n)
				i++
			}
			if n.accepted != (i+len(packets))*lines {
				b.Fatalf("%+v", n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/event")
		})
	}
}
