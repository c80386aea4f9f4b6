package probe

import (
	"strconv"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// who is the part of a series that says whose it is.
type who struct {
	service, namespace, executable, container, pod, pid string
}

// whoLabels are the labels of who, in the order of values.
var whoLabels = [...]string{
	"service_name", "service_namespace", "process_executable_name", "container_id", "k8s_pod_uid", "process_pid",
}

func (w who) values() []string {
	return []string{w.service, w.namespace, w.executable, w.container, w.pod, w.pid}
}

// whose names the process and, where asked for, tells it from its siblings.
func (env *environment) whose(k identity.Key, thread string) who {
	p := env.resolver.Resolve(k, thread)
	w := who{
		service: p.Service, namespace: p.Namespace, executable: p.Executable,
		container: p.ContainerID, pod: p.PodUID,
	}
	if env.config.PerProcess {
		w.pid = strconv.FormatUint(uint64(k.PID), 10)
	}
	return w
}
