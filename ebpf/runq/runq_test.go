package runq

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

func TestMain(m *testing.M) { featuretest.Main(m, map[string]func(){"player": play}) }

// worker is a shell, of one thread, on the processor that the others are on.
type worker struct {
	pid int
	in  io.WriteCloser
	out *bufio.Reader
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
	w := &worker{pid: cmd.Process.Pid, in: in, out: bufio.NewReader(out)}
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

// asleep waits until the process waits for its input.
func (w *worker) asleep(t *testing.T) {
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.pid))
		return err == nil && strings.Contains(string(b), ") S ")
	}, 10*time.Second, 5*time.Millisecond)
}

// schedstat is what the kernel says itself: nanoseconds waited, times run.
func (w *worker) schedstat(t *testing.T) (waited, times uint64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", w.pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the kernel keeps no schedstat")
	}
	require.NoError(t, err)
	fields := strings.Fields(string(b))
	waited, err = strconv.ParseUint(fields[1], 10, 64)
	require.NoError(t, err)
	times, err = strconv.ParseUint(fields[2], 10, 64)
	require.NoError(t, err)
	return waited, times
}

// Two shells compete for a processor: each wait of theirs is counted, and they
// add up to what the kernel says, to the nanosecond. On a busy machine the kernel
// sometimes switches without running the program; what was waited is then in the
// next wait. So one of a few attempts must be exact.
func TestWaits(t *testing.T) {
	const attempts = 5
	for attempt := range attempts {
		var want, got [2]waits
		if !t.Run(strconv.Itoa(attempt), func(t *testing.T) { want, got = compete(t, "test-runq-"+strconv.Itoa(attempt)+"-") }) {
			return
		}
		if want == [2]waits{} {
			t.Skip("the attempt was skipped")
		}
		for i := range got {
			require.GreaterOrEqual(t, want[i].times, uint64(150))
			require.LessOrEqual(t, got[i].times, want[i].times, "a wait that was none")
			require.LessOrEqual(t, got[i].nanos, want[i].nanos)
		}
		if want == got {
			return
		}
		t.Logf("attempt %d: got %v, want %v", attempt, got, want)
	}
	t.Fatal("no attempt was exact")
}

// waits are how often a process waited and for how long.
type waits struct{ times, nanos uint64 }

// compete gives the waits of two shells as the kernel tells them, and as they were
// counted.
func compete(t *testing.T, name string) (want, got [2]waits) {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	workers := []*worker{startWorker(t, name+"0", cpu), startWorker(t, name+"1", cpu)}
	var before [2]waits
	for i, w := range workers {
		w.asleep(t)
		before[i].nanos, before[i].times = w.schedstat(t)
	}
	reg := featuretest.Start(t, New(), nil)
	for range 200 {
		for _, w := range workers {
			w.send(t)
		}
		for _, w := range workers {
			w.await(t)
		}
	}
	for i, w := range workers {
		w.asleep(t)
		ns, n := w.schedstat(t)
		want[i] = waits{n - before[i].times, ns - before[i].nanos}
		m := featuretest.Family(t, reg, "process_cpu_queue_duration_seconds", map[string]string{"service_name": name + strconv.Itoa(i)})
		require.Len(t, m, 1)
		h := m[0].GetHistogram()
		got[i] = waits{h.GetSampleCount(), uint64(math.Round(h.GetSampleSum() * 1e9))}
	}
	return want, got
}
