package statsd

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/vedette-io/vedette/ingest/doortest"
	"github.com/vedette-io/vedette/internal/freeport"
)

// TestLikeExporter sends the same packets to Prometheus's statsd_exporter and
// wants the same series from both.
func TestLikeExporter(t *testing.T) {
	program, err := exec.LookPath("statsd_exporter")
	if err != nil {
		t.Skip("statsd_exporter is not on the PATH")
	}
	packets := []string{
		"foo:1|c\nfoo:2.5|c", "foo.bar-baz:3|c|@0.1", "2xx.count:1|c", "größe:1|c",
		"multi:1|c:2|c|@0.5", "g:5|g\ng:-3|g\ng:+0.5|g", "g2:-4|g", "g3:1e3|g|@0.1",
		"tags:1|c|#k:v,Env:prod\ntags:1|c|#Env:prod,k:v", "tags2:1|c|#k:v:w,empty:", "tags3:1|c|@0.5|#k:v",
		"influx,k=v,l=w:1|c", "librato#k=v:1|c", "sig.fx[k=v,l=w].c:1|c", "odd.tag:1|c|#a-b.c:d",
		"lat:320|ms\nlat:120|ms|@0.25\nlat:1:2:3|ms", "size:20:30|h|#k:v\nsize:40|d|#k:v", "ts:1|c|#k:v|T1656581400",
		"conflict:1|c\nconflict:1|g", "t:1|ms\nt_count:1|c", "neg:-1|c", "bad\nbad:\nbad:1\nbad:x|c\nbad:1|zz\nok:1|c",
	}
	socket := filepath.Join(t.TempDir(), "exporter")
	port, err := freeport.Reserve()
	require.NoError(t, err)
	defer port.Release()
	address := port.Addr()
	cmd := exec.Command(program, "--web.listen-address="+address, "--statsd.listen-udp=", "--statsd.listen-tcp=", "--statsd.listen-unixgram="+socket)
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() }()
	require.Eventually(t, func() bool { _, err := os.Stat(socket); return err == nil }, 20*time.Second, 10*time.Millisecond)
	rg := newRig(t, doortest.Options{}, nil)
	r := &running{t: t}
	for _, p := range packets {
		r.send("unixgram", socket, p)
		rg.take(p)
	}
	r.send("unixgram", socket, "the.end:1|c")
	rg.take("the.end:1|c")
	var theirs map[string]float64
	require.Eventually(t, func() bool {
		theirs = scrape(t, "http://"+address+"/metrics")
		_, ok := theirs[`{__name__="the_end"}`]
		return ok
	}, 20*time.Second, 100*time.Millisecond)

	ours := map[string]float64{}
	for _, line := range rg.flush() {
		at := strings.LastIndexByte(line, '}') + 1
		text, _, _ := strings.Cut(line[at+1:], " ")
		ours[line[:at]], err = strconv.ParseFloat(text, 64)
		require.NoError(t, err)
	}
	require.Equal(t, names(theirs), names(ours))
	for name, want := range theirs {
		if strings.Contains(name, "quantile=") { // both estimate; theirs by rank
			require.InEpsilon(t, want, ours[name], 0.02, name)
			continue
		}
		require.InDelta(t, want, ours[name], 1e-9*math.Abs(want), name)
	}
}

func names(m map[string]float64) []string {
	var out []string
	for name := range m {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

// scrape reads the series that are not the exporter's own.
func scrape(t *testing.T, url string) map[string]float64 {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(req)
	if err != nil {
		return nil
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	require.NoError(t, err)
	out := map[string]float64{}
	for name, f := range families {
		if strings.HasPrefix(name, "statsd_") || strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_") {
			continue
		}
		for _, m := range f.Metric {
			switch {
			case m.Counter != nil:
				out[text(name, m, "")] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[text(name, m, "")] = m.Gauge.GetValue()
			case m.Summary != nil:
				out[text(name+"_sum", m, "")] = m.Summary.GetSampleSum()
				out[text(name+"_count", m, "")] = float64(m.Summary.GetSampleCount())
				for _, q := range m.Summary.Quantile {
					out[text(name, m, formatFloat(q.GetQuantile()))] = q.GetValue()
				}
			}
		}
	}
	return out
}

// text writes a series as ingesttest.Lines does.
func text(name string, m *dto.Metric, quantile string) string {
	pairs := []string{fmt.Sprintf("__name__=%q", name)}
	for _, l := range m.Label {
		pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if quantile != "" {
		pairs = append(pairs, fmt.Sprintf("quantile=%q", quantile))
	}
	sort.Strings(pairs)
	return "{" + strings.Join(pairs, ", ") + "}"
}
