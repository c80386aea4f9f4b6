package kafkatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vedette-io/vedette/internal/freeport"
)

// patience bounds how long a broker may take to start on a loaded machine.
const patience = 2 * time.Minute

// Options says what a broker listens to.
type Options struct {
	// Secure adds listeners with TLS, SASL and both; see Broker.SecureAddr.
	Secure bool

	// Users are the names and passwords for SASL/PLAIN, SCRAM-SHA-256 and
	// SCRAM-SHA-512.
	Users map[string]string

	// Properties are added to the broker's configuration.
	Properties map[string]string

	// Optimize lets the JVM compile hot code fully: slower to start, faster under
	// load. For benchmarks.
	Optimize bool
}

// Broker is a running node.
type Broker struct {
	dir    string
	id     int
	ports  ports
	voters string // the controllers of its cluster
	opts   Options
	libs   string
	certs  *Certificates

	mu     sync.Mutex // guards what follows
	cmd    *exec.Cmd
	exited chan struct{}
}

type ports struct {
	plain, controller, tls, sasl, saslTLS int

	held []*freeport.Port // nobody else gets them, not even while the broker is down
}

// Jars returns the directory with the broker's jars, and whether it has any. It
// is .cache/kafka/libs in the root of the module.
func Jars() (dir string, ok bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
	dir = filepath.Join(dir, ".cache", "kafka", "libs")
	jars, _ := filepath.Glob(filepath.Join(dir, "kafka_*.jar"))
	return dir, len(jars) > 0
}

// Missing says why no broker can be started here; it is empty if one can.
func Missing() string {
	if _, err := exec.LookPath("java"); err != nil {
		return "java is missing: a real Kafka broker cannot be started"
	}
	if _, ok := Jars(); !ok {
		return "the jars of Kafka are missing: run make kafka-jars"
	}
	return ""
}

// Start starts a broker that ends with the test, or skips the test if Missing
// says why.
func Start(t testing.TB, opts Options) *Broker {
	t.Helper()
	if why := Missing(); why != "" {
		t.Skip(why)
	}
	b, err := Run(t.TempDir(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil { // its data goes, too
			t.Error(err)
		}
	})
	return b
}

// Run starts a broker with its data in dir. The caller stops it.
func Run(dir string, opts Options) (*Broker, error) {
	var err error
	b := newBroker(dir, 1, opts)
	if opts.Secure {
		if b.certs, err = writeCertificates(dir); err != nil {
			return nil, err
		}
	}
	if b.ports, err = freePorts(); err != nil {
		return nil, err
	}
	b.voters = b.voter()
	if err := b.format(clusterID()); err != nil {
		return nil, err
	}
	if err := b.Restart(); err != nil {
		return nil, err
	}
	return b, nil
}

func newBroker(dir string, id int, opts Options) *Broker {
	libs, _ := Jars()
	return &Broker{dir: dir, id: id, opts: opts, libs: libs}
}

// voter names the broker as a controller.
func (b *Broker) voter() string { return fmt.Sprintf("%d@%s", b.id, address(b.ports.controller)) }

// Addr returns host:port of the listener without security.
func (b *Broker) Addr() string { return address(b.ports.plain) }

// PartitionDir returns where the broker keeps the log of a partition. Its files
// may be changed while the broker is stopped.
func (b *Broker) PartitionDir(topic string, partition int) string {
	return filepath.Join(b.logDir(), fmt.Sprintf("%s-%d", topic, partition))
}

// Listener names a listener with security.
type Listener string

// The listeners of a broker with Options.Secure.
const (
	TLS     Listener = "TLS"      // encrypted, no client certificate asked for
	SASL    Listener = "SASL"     // authenticated by name and password
	SASLTLS Listener = "SASL_TLS" // both
)

// SecureAddr returns host:port of a listener with security.
func (b *Broker) SecureAddr(l Listener) string {
	switch l {
	case TLS:
		return address(b.ports.tls)
	case SASL:
		return address(b.ports.sasl)
	case SASLTLS:
		return address(b.ports.saslTLS)
	}
	panic("BUG: unknown listener " + string(l))
}

// Certificates returns what a broker with Options.Secure uses.
func (b *Broker) Certificates() Certificates { return *b.certs }

// Kill ends the broker as a crash would, with SIGKILL.
func (b *Broker) Kill() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.endLocked(os.Kill)
}

// Stop ends the broker in order.
func (b *Broker) Stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.endLocked(os.Interrupt)
}

func (b *Broker) endLocked(how os.Signal) error {
	if b.cmd == nil {
		return nil
	}
	if err := b.cmd.Process.Signal(how); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end broker: %w", err)
	}
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-b.exited:
	case <-timer.C:
		_ = b.cmd.Process.Kill()
		<-b.exited
	}
	b.cmd = nil
	return nil
}

// Restart starts the broker again, at the same ports with the same data, and
// waits until it serves. One that runs is ended first.
func (b *Broker) Restart() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.endLocked(os.Interrupt); err != nil {
		return err
	}
	output := &tailBuffer{}
	cmd := b.java("kafka.Kafka", b.configFile())
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	release, err := watchdog(cmd.Process.Pid)
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
		release()
	}()
	b.cmd, b.exited = cmd, exited
	if err := b.awaitServing(exited); err != nil {
		_ = b.endLocked(os.Kill)
		return fmt.Errorf("start broker: %w: %s", err, output)
	}
	return nil
}

// watchdog kills the process if this one dies without ending it, as a test that
// panics does. release lets it go.
func watchdog(pid int) (release func(), err error) {
	cmd := exec.Command("sh", "-c", fmt.Sprintf("read -r _ || kill -9 %d", pid))
	hold, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("watch broker: %w", err)
	}
	return func() {
		_, _ = hold.Write([]byte("\n"))
		_ = cmd.Wait()
	}, nil
}

// awaitServing waits until the broker answers a request: a port that accepts
// connections may still belong to one that starts. One that is alone has to be in
// its own list of brokers as well: until then it makes no topics.
func (b *Broker) awaitServing(exited <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-exited:
			return errors.New("it has exited")
		case <-ctx.Done():
			return fmt.Errorf("it does not serve after %s", patience)
		case <-tick.C:
		}
		if !serves(ctx, b.Addr()) {
			continue
		}
		if strings.Contains(b.voters, ",") { // others may be down
			return nil
		}
		if meta, err := metadata(ctx, b.Addr(), nil); err == nil && len(meta.Brokers) > 0 {
			return nil
		}
	}
}

// apiVersions is an ApiVersions request, version 0, without a client id.
const apiVersions = "\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"

func serves(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte(apiVersions)); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 4))
	return err == nil
}

// format writes the configuration and an empty log of a cluster.
func (b *Broker) format(cluster string) error {
	for file, text := range map[string]string{filepath.Join(b.dir, "log4j2.properties"): logConfig, b.configFile(): b.config()} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	args := []string{"kafka.tools.StorageTool", "format", "--config", b.configFile(), "--cluster-id", cluster}
	for name, password := range b.opts.Users {
		for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, name, password))
		}
	}
	if out, err := b.java(args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format storage of broker: %w: %s", err, out)
	}
	return nil
}

func (b *Broker) java(args ...string) *exec.Cmd {
	flags := []string{"-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-Xshare:auto"}
	if b.opts.Optimize {
		flags = []string{"-Xms512m", "-Xmx512m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"}
	} else {
		flags = append(flags, "-XX:TieredStopAtLevel=1")
	}
	flags = append(flags, "-Dlog4j2.configurationFile="+filepath.Join(b.dir, "log4j2.properties"),
		"-cp", filepath.Join(b.libs, "*"))
	cmd := exec.Command("java", append(flags, args...)...)
	cmd.Dir = b.dir
	return cmd
}

// Pid returns the id of the broker's process, 0 if it does not run.
func (b *Broker) Pid() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return 0
	}
	return b.cmd.Process.Pid
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePorts asks the system for ports.
func freePorts() (ports, error) {
	var p ports
	for _, port := range []*int{&p.plain, &p.controller, &p.tls, &p.sasl, &p.saslTLS} {
		held, err := freeport.Reserve()
		if err != nil {
			return p, err
		}
		p.held = append(p.held, held)
		*port = held.Number()
	}
	return p, nil
}

// tailBuffer keeps the end of what a process says.
type tailBuffer struct {
	mu sync.Mutex
	b  []byte
}

func (t *tailBuffer) Write(p []byte) (int, error) {
	const most = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b); n > most {
		t.b = bytes.Clone(t.b[n-most:])
	}
	return len(p), nil
}

func (t *tailBuffer) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
