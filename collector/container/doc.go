// Package container reads what containers, pods and systemd units use, from the
// kernel's cgroups alone, under cAdvisor's names: no container engine is needed.
//
//	cgroup v1, v2 or both ──walk──► cgroups that are listed ──┐
//	Docker, containerd, kubelet ──names, images, pods────────►├─Collect──► container_*, machine_*
//	/proc ──network namespaces, start times──────────────────►┘
//
// A cgroup is recognised by its path alone (see classify); engines only add
// names to it. Collect walks the hierarchy when the last walk is older than
// Config.RescanInterval and then reads the kernel's files. Run asks the engines
// in the background: Collect never waits for one.
//
// Invariants:
//
//   - A cgroup that goes away while it is read loses the values that were not
//     read yet, never the others' values.
//   - Every series carries the same labels (id, name, image, container, pod,
//     namespace and those of Config.Labels); what is not known is empty.
//   - At most Config.MaxContainers cgroups are listed; what is left out is
//     counted, and containers come before anything else.
//   - An engine that is not there is no error; one that stops answering leaves
//     what it said last of the containers that are still there.
//   - Engines are asked at once, so that one that hangs holds up no other, and
//     what they say is bounded (see jsonStream).
package container
