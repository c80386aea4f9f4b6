package log

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vedette-io/vedette/ingest/buffer"
)

// BenchmarkRead reads a file of lines of 150 bytes to its end: what the agent does
// beside the door.
func BenchmarkRead(b *testing.B) {
	const lines = 20_000
	for _, format := range []string{FormatPlain, FormatCRI, FormatDocker, "json"} {
		b.Run(format, func(b *testing.B) {
			logs, state := inDir(b)
			var content strings.Builder
			for i := range lines {
				text := fmt.Sprintf(`10.1.2.%d - - [21/Nov/2026:10:06:28 +0000] "GET /api/v1/orders/%d/items HTTP/1.1" 200 1534 "-" "Mozilla/5.0 (X11; Linux x86_64)"`, i%256, i)
				switch format {
				case FormatCRI:
					text = strings.TrimSuffix(cri("stdout", "F", text), "\n")
				case FormatDocker:
					text = strings.TrimSuffix(dockerLine("stdout", text+"\n"), "\n")
				case "json":
					text = fmt.Sprintf(`{"time":"2026-11-21T10:06:28.5Z","level":"info","msg":"order taken","order":%d,"user":"u-%d","path":"/api/v1/orders"}`, i, i)
				}
				content.WriteString(text + "\n")
			}
			source := beginning(filepath.Join(logs, "*.log"))
			if source.JSON.Enabled = format == "json"; !source.JSON.Enabled {
				source.Format = format
			}
			write(b, filepath.Join(logs, "app.log"), content.String())
			tail, _ := openTest(b, testConfig(source), state, func(context.Context, string, buffer.Format, []byte) error { return nil })
			tail.scan(time.Now())
			f := tail.files[0]
			b.ReportAllocs()
			b.SetBytes(int64(content.Len()))
			for b.Loop() {
				for tail.round(b.Context()) {
				}
				if f.acked != int64(content.Len()) {
					b.Fatal(f.acked)
				}
				f.done, f.acked, f.mark, f.doneMark, f.size = 0, 0, mark{}, mark{}, 0
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
			f.close()
		})
	}
}
