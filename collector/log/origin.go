package log

import (
	"maps"
	"time"
)

const (
	// nameWithin is for how long the records of a new file wait until its service has
	// a name: containers are listed every ten seconds, and the kubelet knows a pod
	// soon after it runs.
	nameWithin = 20 * time.Second
	// nameEvery is how often it is asked for until then, and nameAgain afterwards.
	nameEvery = time.Second
	nameAgain = 10 * time.Second
)

// Services names services of containers by the rule of package identity, as eBPF's
// metrics and spans do; *container.Collector does it. A container is known by its id,
// or by the UID of its pod and its name there. It answers from memory: name is empty
// as long as nothing is known, and settled is false as long as more may be told.
type Services interface {
	Service(containerID, podUID, nameInPod string) (name, namespace string, settled bool)
}

// origin is who writes a file.
type origin struct {
	attributes map[string]string // of the resource, but for what Services say
	named      bool              // the source, or the engine's file, says what the service is called
	placed     bool              // the source says in which namespace it is
	resource   []byte            // the content of the Resource message

	found, asked    time.Time // when Services were asked first, and last
	settled         bool      // records need not wait any more
	name, namespace string    // as Services said
}

// askable says whether Services may know the service.
func (o *origin) askable() bool {
	return !o.named && (o.attributes["container.id"] != "" || o.attributes["k8s.pod.uid"] != "" && o.attributes["k8s.container.name"] != "")
}

// waits says whether records wait until the service has a name.
func (o *origin) waits() bool { return !o.found.IsZero() && !o.settled }

// nameService asks what the service of a file is called, now and then, and says whether
// its records may be sent: those of a container wait until that is known, so that
// they have one name from the first on.
func (t *Tailer) nameService(f *file, now time.Time) (ready bool) {
	o := &f.origin
	if t.services == nil || !o.askable() {
		return true
	}
	if o.found.IsZero() {
		o.found = now
		for _, before := range t.files { // of its container
			if b := before.origin; before.path == f.path && before != f && !b.found.IsZero() {
				o.found, o.settled = b.found, b.settled
			}
		}
	}
	every := nameAgain
	if !o.settled {
		every = nameEvery
	}
	if now.Sub(o.asked) < every {
		return o.settled
	}
	o.asked = now
	name, namespace, settled := t.services.Service(o.attributes["container.id"], o.attributes["k8s.pod.uid"], o.attributes["k8s.container.name"])
	if name != "" && (name != o.name || namespace != o.namespace) {
		o.name, o.namespace = name, namespace
		a := maps.Clone(o.attributes)
		a["service.name"] = name
		if namespace != "" && !o.placed {
			a["service.namespace"] = namespace
		}
		o.resource = resourceOf(a)
	}
	o.settled = o.settled || settled || now.Sub(o.found) >= nameWithin
	return o.settled
}
