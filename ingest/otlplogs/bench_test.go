package otlplogs

import (
	"fmt"
	"testing"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/vedette-io/vedette/ingest/buffer"
	"github.com/vedette-io/vedette/ingest/wire"
)

// benchLogs is what an agent sends of some files: lines of 150 bytes with a
// severity and two attributes.
func benchLogs(records int) plog.Logs {
	ld := plog.NewLogs()
	const perResource = 100
	var list plog.LogRecordSlice
	for i := range records {
		if i%perResource == 0 {
			rl := ld.ResourceLogs().AppendEmpty()
			a := rl.Resource().Attributes()
			a.PutStr("service.name", "checkout")
			a.PutStr("service.instance.id", fmt.Sprintf("checkout-7d9f8b6c4-%d", i/perResource))
			for _, k := range []string{"host.name", "container.id", "k8s.namespace.name", "k8s.pod.name", "log.file.path"} {
				a.PutStr(k, "value of "+k)
			}
			list = rl.ScopeLogs().AppendEmpty().LogRecords()
		}
		l := list.AppendEmpty()
		l.SetTimestamp(pcommon.Timestamp(nowNs + uint64(i)))
		l.SetObservedTimestamp(pcommon.Timestamp(nowNs + uint64(i) + 1e6))
		l.SetSeverityNumber(plog.SeverityNumberInfo)
		l.SetSeverityText("INFO")
		l.Body().SetStr(fmt.Sprintf(`10.1.2.%d - - [21/Nov/2026:10:06:28 +0000] "GET /api/v1/orders/%d/items HTTP/1.1" 200 1534 "-" "Mozilla/5.0 (X11; Linux x86_64; rv:132.0)"`, i%256, i*7))
		l.Attributes().PutStr("log.iostream", "stdout")
		l.Attributes().PutInt("line", int64(i))
	}
	return ld
}

// BenchmarkDecode reads and divides; the Collector's reading of the same request
// beside it.
func BenchmarkDecode(b *testing.B) {
	const records = 1000
	body := marshal(b, benchLogs(records))
	perRecord := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		b.ReportAllocs()
	}
	for _, o := range []wire.PartOptions{{Partitions: 1, Plain: true}, {Partitions: 1}, {Partitions: 8, Plain: true}} {
		b.Run(fmt.Sprintf("partitions=%d/plain=%t", o.Partitions, o.Plain), func(b *testing.B) {
			r := New()
			for b.Loop() {
				if err := r.Decode(buffer.FormatOTLPLogs, body, wire.Limits{MaxLogBytes: 1 << 20}); err != nil || r.Logs.Len() != records {
					b.Fatal(err)
				}
				if _, err := r.Parts(body, o); err != nil {
					b.Fatal(err)
				}
			}
			perRecord(b)
		})
	}
	b.Run("pdata", func(b *testing.B) {
		for b.Loop() {
			if _, err := unmarshal(body); err != nil {
				b.Fatal(err)
			}
		}
		perRecord(b)
	})
}
