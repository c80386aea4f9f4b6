package clustertest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// program is one of the cluster's.
type program struct {
	name, address string
	log           string
	process       *os.Process
	done          chan struct{}
}

// run starts a program. What it says goes to <name>.log.
func (c *Cluster) run(name string, args ...string) *program {
	p := &program{name: name, log: c.path(name + ".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(c.find(name), args...)
	cmd.Env = append(os.Environ(), "PATH="+strings.Join(c.tools, ":"))
	if name == "containerd" { // starts runc, whose library may be unpacked, too
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+c.libraries)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("start %s: %v", name, err)
	}
	p.process = cmd.Process
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	return p
}

func (p *program) kill() {
	_ = p.process.Kill()
	<-p.done
}

// tail is the end of what a program has said.
func (p *program) tail() string {
	text, _ := os.ReadFile(p.log)
	const most = 2000
	return string(text[max(0, len(text)-most):])
}

// wait waits for a program to be ready, and not longer than it runs.
func (c *Cluster) wait(name string, ready func() error, address string) error {
	p := c.programs[name]
	p.address = address
	err := c.poll(func() error {
		select {
		case <-p.done:
			return fatal{fmt.Errorf("%s has ended: %s", name, p.tail())}
		default:
			return ready()
		}
	})
	if err != nil {
		return fmt.Errorf("%w; its log ends with: %s", err, p.tail())
	}
	return nil
}

// fatal is an error that waiting does not mend.
type fatal struct{ error }

// poll waits until a function returns no error.
func (c *Cluster) poll(try func() error) error {
	deadline := time.Now().Add(patience)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try()
		if _, end := err.(fatal); err == nil || end {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s: %w", patience, err)
		}
		<-ticker.C
	}
}

// end ends everything that was started and removes what it left.
func (c *Cluster) end() {
	if c.t.Failed() {
		for _, p := range c.programs {
			c.t.Logf("the end of the log of %s:\n%s", p.name, p.tail())
		}
	}
	for _, name := range []string{"kubelet", "kube-apiserver", "etcd"} {
		if p := c.programs[name]; p != nil {
			p.kill()
		}
	}
	if p := c.programs["containerd"]; p != nil {
		if list, err := c.ctr("tasks", "list", "--quiet"); err == nil {
			for _, id := range strings.Fields(list) {
				_, _ = c.ctr("tasks", "delete", "--force", id) // one may end by itself meanwhile
			}
		}
		p.kill()
	}
	if err := c.folder.End(); err != nil {
		c.t.Errorf("end the cluster: %v", err)
	}
}
