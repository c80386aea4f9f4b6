package feature

import (
	"strconv"

	"github.com/vedette-io/vedette/ebpf/identity"
)

// Who is the part of a series that says whose it is.
type Who struct {
	Service, Namespace, Executable, ContainerID   string
	PodUID, PodNamespace, Pod, ContainerName, PID string
}

// WhoLabels are the labels of Who, in the order of Values.
var WhoLabels = [...]string{
	"service_name", "service_namespace", "process_executable_name", "container_id",
	"k8s_pod_uid", "k8s_namespace_name", "k8s_pod_name", "container_name", "process_pid",
}

// Values are the values of WhoLabels.
func (w Who) Values() []string {
	return []string{w.Service, w.Namespace, w.Executable, w.ContainerID, w.PodUID, w.PodNamespace, w.Pod, w.ContainerName, w.PID}
}

// Whose names the process and, where asked for, tells it from its siblings.
func (env *Environment) Whose(k identity.Key, thread string) Who {
	p := env.Resolver.Resolve(k, thread)
	w := Who{
		Service: p.Service, Namespace: p.Namespace, Executable: p.Executable,
		ContainerID: p.ContainerID, PodUID: p.PodUID,
		PodNamespace: p.PodNamespace, Pod: p.Pod, ContainerName: p.Names.Container,
	}
	if env.PerProcess {
		w.PID = strconv.FormatUint(uint64(k.PID), 10)
	}
	return w
}
