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
// add up to what the kernel says, to the nanosecond.
func TestWaits(t *testing.T) {
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	workers := []*worker{startWorker(t, "test-runq-0", cpu), startWorker(t, "test-runq-1", cpu)}
	waited, times := [2]uint64{}, [2]uint64{}
	for i, w := range workers {
		w.asleep(t)
		waited[i], times[i] = w.schedstat(t)
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
		m := featuretest.Family(t, reg, "process_cpu_queue_duration_seconds", map[string]string{"service_name": "test-runq-" + strconv.Itoa(i)})
		require.Len(t, m, 1)
		h := m[0].GetHistogram()
		require.GreaterOrEqual(t, n-times[i], uint64(150))
		require.Equal(t, n-times[i], h.GetSampleCount())
		require.Equal(t, ns-waited[i], uint64(math.Round(h.GetSampleSum()*1e9)))
	}
}
