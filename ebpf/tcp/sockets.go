package tcp

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature"
	"github.com/vedette-io/vedette/ebpf/identity"
)

const (
	// maxSockets bounds the sockets that are remembered between two looks, some 200
	// bytes each.
	maxSockets = 1 << 17
	// maxRemotes bounds the flows of a process, as in tcp.bpf.c: what is beyond is one
	// remote.
	maxRemotes = 256
	// maxServers bounds the places where somebody was seen to answer.
	maxServers = 4096
)

// sockets is the source without programs in the kernel: it asks sock_diag for the
// sockets and /proc whose they are. It knows what it finds open when it looks,
// and no process but those whose descriptors it may read.
type sockets struct {
	env      *feature.Environment
	self     uint32 // this process as env.Proc numbers it
	ownSpace uint32 // the network namespace of this process
	known    map[socketID]*connection
	counts   map[bpf.TcpTcpKey]*bpf.TcpTcpValue
	remotes  map[identity.Key]int // flows of a process
	places   map[feature.Place]identity.Key
	round    uint64
	full     uint64
	unowned  uint64
}

// socketID tells a socket from all others since boot.
type socketID struct {
	netns  uint32
	cookie uint64
}

// connection is what is remembered of a socket.
type connection struct {
	socket
	told  traffic      // counted already
	owner identity.Key // zero: not known
	role  bpf.TcpTcpRole
	round uint64 // in which it was seen last
	fresh bool   // not counted as opened yet
	asked bool   // its owner was looked for
	sided bool   // its role is settled
	crowd bool   // its remote is beyond maxRemotes
}

// newSockets takes stock of what is open.
func newSockets(env *feature.Environment) (source, error) {
	s := &sockets{
		env: env, known: make(map[socketID]*connection), counts: make(map[bpf.TcpTcpKey]*bpf.TcpTcpValue),
		remotes: make(map[identity.Key]int), places: make(map[feature.Place]identity.Key),
	}
	if name, err := os.Readlink(filepath.Join(env.Proc, "self")); err == nil {
		n, _ := strconv.ParseUint(name, 10, 32)
		s.self = uint32(n)
	}
	if err := s.look(true); err != nil {
		return nil, fmt.Errorf("take stock of the TCP connections: %w", err)
	}
	return s, nil
}

func (s *sockets) arrivals() *ebpf.Map { return nil }
func (s *sockets) close() error        { return nil }

func (s *sockets) lost() (map[string]uint64, error) {
	return map[string]uint64{"map_full": s.full, "unowned": s.unowned}, nil
}

func (s *sockets) failures(func(bpf.TcpTcpFailure, uint64)) error { return nil }

func (s *sockets) drop(k entryKey) error {
	delete(s.counts, k.Remote)
	delete(s.remotes, identity.Key{PID: k.Remote.Tgid, StartNanos: k.Remote.StartNs}) // it is dead
	return nil
}

func (s *sockets) flows(visit func(k bpf.TcpTcpKey, v *bpf.TcpTcpValue)) error {
	for k, v := range s.counts {
		visit(k, v)
	}
	return nil
}

func (s *sockets) servers(visit func(at feature.Place, who identity.Key)) error {
	for at, who := range s.places {
		visit(at, who)
	}
	return nil
}

func (s *sockets) update(visit func(k bpf.TcpTcpKey, rttUS uint32)) error {
	if err := s.look(false); err != nil {
		return err
	}
	for _, c := range s.known {
		if c.round == s.round && c.state != listening && c.inode != 0 && s.counted(c) {
			visit(c.key(), c.rttUS)
		}
	}
	return nil
}

// counted says whether a connection is somebody's, and not Vedette's own.
func (s *sockets) counted(c *connection) bool {
	return c.owner.PID != 0 && c.owner.PID != s.self && c.owner.PID != s.env.Self
}

// key says to which flow a connection belongs.
func (c *connection) key() bpf.TcpTcpKey {
	k := bpf.TcpTcpKey{StartNs: c.owner.StartNanos, Tgid: c.owner.PID, Role: uint8(c.role), Port: c.local.Port()}
	switch {
	case c.crowd:
		k.Port = 0
	case c.role == bpf.TcpTcpRoleTCP_OUTGOING:
		k.Port, k.Addr = c.peer.Port(), feature.WordsOf(c.peer.Addr())
	}
	return k
}

// look asks for all sockets and adds what is new of them to the counts. At first
// it only takes stock.
func (s *sockets) look(first bool) error {
	pids, spaces, err := s.processes()
	if err != nil {
		return err
	}
	s.round++
	var found []*connection
	looked, err := s.dumpAll(spaces, first, &found)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(c *connection) bool { return c.inode != 0 && (!c.asked || c.owner.PID != 0 && !pids[c.owner.PID]) }) {
		s.findOwners(pids, found)
	}
	s.settle()
	for id, c := range s.known {
		_, exists := spaces[id.netns]
		switch {
		case c.round == s.round:
			s.take(id, c)
		case looked[id.netns] || !exists:
			delete(s.known, id)
		}
	}
	return nil
}

// processes lists the processes, and one of each network namespace.
func (s *sockets) processes() (pids map[uint32]bool, spaces map[uint32]uint32, err error) {
	d, err := os.Open(s.env.Proc)
	if err != nil {
		return nil, nil, fmt.Errorf("list the processes: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, nil, fmt.Errorf("list the processes: %w", err)
	}
	pids, spaces = make(map[uint32]bool), make(map[uint32]uint32)
	if n, ok := inodeIn(filepath.Join(s.env.Proc, "self/ns/net"), "net:["); ok {
		s.ownSpace = n
		spaces[n] = s.self
	}
	for _, name := range names {
		pid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			continue
		}
		pids[uint32(pid)] = true
		if n, ok := inodeIn(filepath.Join(s.env.Proc, name, "ns/net"), "net:["); ok && spaces[n] == 0 {
			spaces[n] = uint32(pid)
		}
	}
	return pids, spaces, nil
}

// inodeIn reads the number of a link such as net:[4026531840].
func inodeIn(path, prefix string) (uint32, bool) {
	to, err := os.Readlink(path)
	if err != nil {
		return 0, false
	}
	digits, ok := strings.CutPrefix(to, prefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 32)
	return uint32(n), err == nil
}

// dumpAll asks in every network namespace that may be entered, and says which
// those were. The own one must answer.
func (s *sockets) dumpAll(spaces map[uint32]uint32, first bool, found *[]*connection) (map[uint32]bool, error) {
	looked := make(map[uint32]bool)
	fd, err := openDiag()
	if err != nil {
		return nil, err
	}
	err = dump(fd, func(k *socket) { s.see(s.ownSpace, k, first, found) })
	unix.Close(fd)
	if err != nil {
		return nil, err
	}
	looked[s.ownSpace] = true
	var others, pids []uint32
	for n, pid := range spaces {
		if n != s.ownSpace {
			others, pids = append(others, n), append(pids, pid)
		}
	}
	if len(others) == 0 {
		return looked, nil
	}
	for i, fd := range openDiagIn(s.env.Proc, pids) {
		if fd < 0 {
			continue
		}
		looked[others[i]] = dump(fd, func(k *socket) { s.see(others[i], k, first, found) }) == nil
		unix.Close(fd)
	}
	return looked, nil
}

// see notes a socket in found.
func (s *sockets) see(netns uint32, k *socket, first bool, found *[]*connection) {
	id := socketID{netns, k.cookie}
	c := s.known[id]
	switch {
	case c != nil && c.round == s.round:
		return
	case c == nil && k.inode == 0:
		return // not accepted yet, or closed already
	case c == nil && len(s.known) >= maxSockets:
		s.full++
		return
	case c == nil:
		c = &connection{fresh: !first}
		if first {
			c.told = k.traffic
		}
		s.known[id] = c
	}
	c.socket, c.round = *k, s.round
	*found = append(*found, c)
}

// findOwners reads the descriptors of all processes: they name sockets by inode.
func (s *sockets) findOwners(pids map[uint32]bool, found []*connection) {
	wanted := make(map[uint32]*connection)
	for _, c := range found {
		if c.inode != 0 && (c.owner.PID == 0 || !pids[c.owner.PID]) {
			wanted[c.inode] = c
		}
	}
	// The lowest has it: a parent, where a child has inherited it.
	for _, pid := range slices.Sorted(maps.Keys(pids)) {
		dir := filepath.Join(s.env.Proc, strconv.FormatUint(uint64(pid), 10), "fd")
		d, err := os.Open(dir)
		if err != nil {
			continue // gone, or another user's
		}
		names, _ := d.Readdirnames(-1)
		d.Close()
		var who identity.Key
		for _, name := range names {
			inode, ok := inodeIn(filepath.Join(dir, name), "socket:[")
			if !ok || wanted[inode] == nil {
				continue
			}
			if who.PID == 0 {
				if who, ok = s.env.Resolver.Find(pid); !ok {
					break
				}
			}
			wanted[inode].owner = who
			delete(wanted, inode)
		}
		if len(wanted) == 0 {
			break
		}
	}
	for _, c := range wanted {
		c.owner = identity.Key{}
		if !c.asked && c.state != listening {
			s.unowned++
		}
	}
	for _, c := range found {
		c.asked = c.asked || c.inode != 0
	}
}

// settle decides on which side the new connections began: incoming are those to a
// port that is listened on.
func (s *sockets) settle() {
	type port struct {
		netns uint32
		port  uint16
	}
	listeners := make(map[port]bool)
	for id, c := range s.known {
		if c.state == listening {
			listeners[port{id.netns, c.local.Port()}] = true
		}
	}
	for id, c := range s.known {
		if !c.sided {
			c.sided = true
			if listeners[port{id.netns, c.local.Port()}] {
				c.role = bpf.TcpTcpRoleTCP_INCOMING
			}
		}
	}
}

// take adds what is new of a socket to its flow.
func (s *sockets) take(id socketID, c *connection) {
	if c.owner.PID == 0 {
		return
	}
	s.answers(id, c)
	if c.state == listening || !s.counted(c) {
		return
	}
	k := c.key()
	v := s.counts[k]
	if v == nil && !c.crowd && s.remotes[c.owner] >= maxRemotes {
		c.crowd = true
		k = c.key()
		v = s.counts[k]
	}
	if v == nil {
		if len(s.counts) >= s.env.MaxSeries {
			s.full++
			return
		}
		v = new(bpf.TcpTcpValue)
		s.counts[k] = v
		s.remotes[c.owner]++
	}
	if c.fresh {
		c.fresh = false
		v.Connects++
	}
	now := c.traffic
	v.Sent += now.sent - min(c.told.sent, now.sent)
	v.Received += now.received - min(c.told.received, now.received)
	v.Retransmits += now.retransmits - min(c.told.retransmits, now.retransmits)
	c.told = now
}

// answers notes who answers at the place where a connection came in, or that is
// listened on.
func (s *sockets) answers(id socketID, c *connection) {
	addrs := []netip.Addr{c.local.Addr()}
	switch {
	case c.state != listening && c.role != bpf.TcpTcpRoleTCP_INCOMING:
		return
	case c.local.Addr().IsUnspecified():
		// what the host is called on other networks shows in its connections
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	for _, a := range addrs {
		at := feature.Place{Addr: a, Port: c.local.Port()}
		if a.IsLoopback() {
			at.NetNS = id.netns
		}
		if _, known := s.places[at]; !known && len(s.places) >= maxServers {
			for other := range s.places {
				delete(s.places, other)
				break
			}
		}
		s.places[at] = c.owner
	}
}
