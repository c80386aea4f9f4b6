package nezha

import (
	"archive/tar"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const header = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration\n"

// lines are two traces; the second one's first line is there twice.
const lines = header +
	"0087f677c0a2cf3f80a551987167911b,ee744a66e6efcb2e,root,front-end-579b9bff58-t2dbm,Front/Recv.,1661140374351773094,1661140374362982609,11209\n" +
	"0087f677c0a2cf3f80a551987167911b,a23660ca2e7cc4c8,ee744a66e6efcb2e,cart-579b9bff59-x2dbm,\"Cart/Get, all\",1661140374351910124,1661140374357482580,5572\n" +
	"0187f677c0a2cf3f80a551987167911b,ee744a66e6efcb2e,root,front-end-579b9bff58-t2dbm,Front/Recv.,1661140375351773094,1661140375362982609,11209\n" +
	"0187f677c0a2cf3f80a551987167911b,ee744a66e6efcb2e,root,front-end-579b9bff58-t2dbm,Front/Recv.,1661140375351773094,1661140375362982609,11209\n"

// archive writes an archive of files, name and text in turn.
func archive(t *testing.T, files ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "day.tar.zst")
	f, err := os.Create(name)
	require.NoError(t, err)
	z, err := zstd.NewWriter(f)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}))
		_, err := io.WriteString(w, files[i+1])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
	return name
}

func TestLoadSendsEverySpanOnce(t *testing.T) {
	var (
		mu       sync.Mutex
		requests []ptraceotlp.ExportRequest
		busy     = true
	)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/v1/traces" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if busy {
			busy = false
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		req := ptraceotlp.NewExportRequest()
		if err := req.UnmarshalProto(body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		requests = append(requests, req)
	}))
	defer srv.Close()
	o, err := DefaultOptions(filepath.Dir(archive(t,
		"day/log/03_53_log.csv", "not,read\n", "day/trace/03_53_trace.csv", lines, "day/normal/trace/03_53_trace.csv", header)), srv.URL)
	require.NoError(t, err)
	o.Spans = 2
	var told strings.Builder
	o.Progress = &told
	got, err := Load(t.Context(), o)
	require.NoError(t, err)
	got.Took = 0
	require.Equal(t, Totals{
		Spans: 3, Repeated: 1, Requests: 2, Traces: 2, Services: map[string]int64{"front-end": 2, "cart": 1},
		First: []int64{1661140374351773094}, Last: []int64{1661140375351773094},
	}, got)
	require.Contains(t, told.String(), "from 2022-08-22 03:52:54 to 2022-08-22 03:52:55")
	spans := 0
	for _, r := range requests {
		for _, rs := range r.Traces().ResourceSpans().All() {
			service, _ := rs.Resource().Attributes().Get("service.name")
			pod, _ := rs.Resource().Attributes().Get("k8s.pod.name")
			require.True(t, strings.HasPrefix(pod.Str(), service.Str()+"-"))
			for _, s := range rs.ScopeSpans().At(0).Spans().All() {
				spans++
				require.Equal(t, service.Str() == "front-end", s.ParentSpanID().IsEmpty())
				if service.Str() == "cart" {
					require.Equal(t, "Cart/Get, all", s.Name())
					require.EqualValues(t, 5572456, s.EndTimestamp()-s.StartTimestamp())
				}
			}
		}
	}
	require.Equal(t, 3, spans)
}

func TestLoadEndsWithTheFirstRefusal(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no more", http.StatusBadRequest)
	}))
	defer srv.Close()
	o, err := DefaultOptions(filepath.Dir(archive(t, "day/trace/a.csv", lines)), srv.URL)
	require.NoError(t, err)
	o.Spans = 1
	_, err = Load(t.Context(), o)
	require.ErrorContains(t, err, "no more")
}

func TestReadNamesWhatIsWrong(t *testing.T) {
	good := strings.Split(strings.Split(lines, "\n")[1], ",")
	with := func(field int, text string) string {
		bad := append([]string(nil), good...)
		bad[field] = text
		return header + strings.Join(bad, ",") + "\n"
	}
	for _, c := range []struct{ text, want string }{
		{"a,b\n", "read header: got"},
		{"", "read header: EOF"},
		{with(0, "0087"), "line 2: parse TraceID: got \"0087\", want 32 hexadecimal digits"},
		{with(1, "xe744a66e6efcb2e"), "parse SpanID"},
		{with(2, "ee744a66e6efcb2e00"), "parse ParentID"},
		{with(5, "now"), "parse StartTimeUnixNano"},
		{with(6, ""), "parse EndTimeUnixNano"},
		{header + "a,b\n", "wrong number of fields"},
	} {
		_, err := Read(archive(t, "d/trace/x.csv", c.text), func(*Span) error { return nil })
		require.ErrorContains(t, err, c.want)
	}
	_, err := Read(filepath.Join(t.TempDir(), "absent"), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = DefaultOptions(t.TempDir(), "")
	require.ErrorContains(t, err, "no *.tar.zst")
}

func TestServiceIsThePodWithoutItsLastTwoParts(t *testing.T) {
	for pod, want := range map[string]string{"ts-order-service-5b67c48447-fj8b7": "ts-order-service", "a-b": "a", "plain": "plain", "": ""} {
		require.Equal(t, want, (&Span{Pod: pod}).Service())
	}
}

func FuzzReadLines(f *testing.F) {
	f.Add(lines)
	f.Fuzz(func(_ *testing.T, text string) {
		_ = readLines(strings.NewReader(text), func(*Span) error { return nil })
	})
}
