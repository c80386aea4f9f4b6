package runq

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) { featuretest.Main(m, map[string]func(){"player": play}) }

// worker is a shell, of one thread, on the processor that the others are on.
type worker struct {
	service string
	pid     int
	in      io.WriteCloser
	out     *bufio.Reader
}

// startWorker starts a shell that counts to a hundred for each line it is sent
// and then answers.
func startWorker(t *testing.T, service string, cpu int) *worker {
	cmd := exec.Command("sh", "-c", `echo up; while read -r l; do i=0; while [ $i -lt 100 ]; do i=$((i+1)); done; echo ok; done`)
	cmd.Env = append(os.Environ(), "OTEL_SERVICE_NAME="+service)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	w := &worker{service: service, pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	w.await(t)
	var set unix.CPUSet
	set.Set(cpu)
	require.NoError(t, unix.SchedSetaffinity(w.pid, &set))
	return w
}

func (w *worker) await(t *testing.T) {
	_, err := w.out.ReadString('\n')
	require.NoError(t, err)
}

func (w *worker) send(t *testing.T) {
	_, err := io.WriteString(w.in, "go\n")
	require.NoError(t, err)
}

// asleep waits until the process waits for its input, and gives what the kernel says
// that it has waited.
func (w *worker) asleep(t *testing.T) waits {
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
		return err == nil && strings.Contains(string(b), ") S ")
	}, time.Minute, 5*time.Millisecond)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", w.pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the kernel keeps no schedstat")
	}
	require.NoError(t, err)
	var ran uint64
	var told waits
	_, err = fmt.Sscan(string(b), &ran, &told.nanos, &told.times)
	require.NoError(t, err)
	return told
}

// Shells compete for a processor: each wait of theirs is counted, and they add up
// to what the kernel says, to the nanosecond, from when the feature was loaded on;
// of shells that began later, from their beginning on.
func TestWaits(t *testing.T) {
	cpu := someCPU(t)
	workers := []*worker{startWorker(t, "test-runq-old-0", cpu), startWorker(t, "test-runq-old-1", cpu)}
	before := make([]waits, 4)
	for i, w := range workers {
		before[i] = w.asleep(t)
	}
	reg := featuretest.Start(t, New(), nil)
	workers = append(workers, startWorker(t, "test-runq-new-0", cpu), startWorker(t, "test-runq-new-1", cpu))
	compete(t, workers, 200)
	for i, w := range workers {
		want := w.counted(t, reg, before[i])
		require.GreaterOrEqual(t, want.times, uint64(150))
	}
}

// Where a kernel does not run the program at a switch, here because it is not
// attached for a while, the next one makes up for it.
func TestUnseenSwitches(t *testing.T) {
	cpu := someCPU(t)
	f := New()
	reg := featuretest.Start(t, f, nil)
	workers := []*worker{startWorker(t, "test-runq-unseen-0", cpu), startWorker(t, "test-runq-unseen-1", cpu)}
	compete(t, workers, 50)
	seen := make([]waits, 2)
	for i, w := range workers {
		seen[i] = w.counted(t, reg, waits{})
	}
	before := featuretest.Family(t, reg, "vedette_ebpf_runq_averaged_total", nil)[0].GetCounter().GetValue()
	require.NoError(t, f.relink(false))
	compete(t, workers, 50)
	var unseen uint64
	for i, w := range workers {
		unseen += w.asleep(t).times - seen[i].times
	}
	require.NoError(t, f.relink(true))
	compete(t, workers, 1)
	for _, w := range workers {
		w.counted(t, reg, waits{})
	}
	after := featuretest.Family(t, reg, "vedette_ebpf_runq_averaged_total", nil)[0].GetCounter().GetValue()
	require.GreaterOrEqual(t, after-before, float64(unseen))
}

// relink attaches the program or detaches it.
func (f *Feature) relink(attach bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !attach {
		links := f.links
		f.links = nil
		return feature.CloseAll(links)
	}
	var err error
	f.links, err = feature.AttachAll(f.objects.RunqSwitch)
	return err
}

// waits are how often a process waited and for how long.
type waits struct{ times, nanos uint64 }

// compete has the workers work all at once.
func compete(t *testing.T, workers []*worker, times int) {
	for range times {
		for _, w := range workers {
			w.send(t)
		}
		for _, w := range workers {
			w.await(t)
		}
	}
}

// counted requires that what is counted of the worker is what the kernel says more
// than before, which it gives. The last wait is counted when the worker has gone to
// sleep, a little after it looks so.
func (w *worker) counted(t *testing.T, reg *prometheus.Registry, before waits) waits {
	want := w.asleep(t)
	want.times, want.nanos = want.times-before.times, want.nanos-before.nanos
	var got waits
	for deadline := time.Now().Add(time.Minute); got.times < want.times && time.Now().Before(deadline); runtime.Gosched() {
		got = waits{}
		for _, m := range featuretest.Family(t, reg, "process_cpu_queue_duration_seconds", map[string]string{"service_name": w.service}) {
			h := m.GetHistogram()
			got.times += h.GetSampleCount()
			got.nanos += uint64(math.Round(h.GetSampleSum() * 1e9))
		}
	}
	require.Equal(t, want, got, w.service)
	return want
}

// someCPU is a processor that the test may run on.
func someCPU(t *testing.T) int {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	return cpu
}
