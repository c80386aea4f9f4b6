package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// States of a TCP socket, as the kernel numbers them.
const (
	established = 1
	synReceived = 3
	finWait1    = 4
	finWait2    = 5
	closeWait   = 8
	lastAck     = 9
	listening   = 10
	closing     = 11
)

// states is what is asked for: not the connections that are being opened or
// whose sockets are gone.
const states = 1<<established | 1<<synReceived | 1<<finWait1 | 1<<finWait2 | 1<<closeWait | 1<<lastAck | 1<<listening | 1<<closing

// socket is one TCP socket as the kernel tells it through sock_diag.
type socket struct {
	cookie      uint64 // tells it from all others of its network namespace
	inode       uint32 // 0: no process has it open
	state       uint8
	local, peer netip.AddrPort
	rttUS       uint32
	traffic
}

// traffic is what a socket has carried.
type traffic struct {
	sent        uint64 // without what was sent again
	received    uint64
	retransmits uint64
}

const (
	messageHead = 16 // struct nlmsghdr
	diagSize    = 72 // struct inet_diag_msg
	diagInfo    = 2  // INET_DIAG_INFO
)

// dump asks an open netlink socket for the TCP sockets of its network namespace.
func dump(fd int, visit func(*socket)) error {
	buffer := make([]byte, 64<<10)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := unix.Sendto(fd, request(family), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return fmt.Errorf("ask for the TCP sockets: %w", err)
		}
		for done := false; !done; {
			n, _, err := unix.Recvfrom(fd, buffer, 0)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return fmt.Errorf("receive the TCP sockets: %w", err)
			}
			if done, err = messages(buffer[:n], visit); err != nil {
				switch {
				case !errors.Is(err, unix.ENOENT):
				case family == unix.AF_INET6:
					return nil // a kernel without IPv6
				default:
					return errNoDiag
				}
				return fmt.Errorf("list the TCP sockets: %w", err)
			}
		}
	}
	return nil
}

var errNoDiag = errors.New("the kernel has no sock_diag for TCP (module tcp_diag)")

// request is a struct inet_diag_req_v2 that asks for all sockets of a family.
func request(family uint8) []byte {
	b := make([]byte, messageHead+56)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b[messageHead] = family
	b[messageHead+1] = unix.IPPROTO_TCP
	b[messageHead+2] = 1 << (diagInfo - 1)
	binary.NativeEndian.PutUint32(b[messageHead+4:], states)
	return b
}

var errShort = errors.New("a message of sock_diag is shorter than it says")

// messages decodes what one read of a dump gave; done: there is no more.
func messages(b []byte, visit func(*socket)) (done bool, err error) {
	for len(b) >= messageHead {
		n := int(binary.NativeEndian.Uint32(b))
		if n < messageHead || n > len(b) {
			return true, errShort
		}
		body := b[messageHead:n]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, errShort
			}
			if e := -int32(binary.NativeEndian.Uint32(body)); e != 0 {
				return true, unix.Errno(e)
			}
			return true, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			s, ok := decodeSocket(body)
			if !ok {
				return true, errShort
			}
			visit(&s)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return false, nil
}

// decodeSocket reads a struct inet_diag_msg and what is attached to it.
func decodeSocket(b []byte) (s socket, ok bool) {
	if len(b) < diagSize {
		return s, false
	}
	s.state = b[1]
	s.local = netip.AddrPortFrom(address(b[0], b[8:24]), binary.BigEndian.Uint16(b[4:]))
	s.peer = netip.AddrPortFrom(address(b[0], b[24:40]), binary.BigEndian.Uint16(b[6:]))
	s.cookie = uint64(binary.NativeEndian.Uint32(b[44:])) | uint64(binary.NativeEndian.Uint32(b[48:]))<<32
	s.inode = binary.NativeEndian.Uint32(b[68:])
	for a := b[diagSize:]; len(a) >= 4; {
		n := int(binary.NativeEndian.Uint16(a))
		if n < 4 || n > len(a) {
			return s, false
		}
		if binary.NativeEndian.Uint16(a[2:]) == diagInfo && s.state != listening {
			s.count(a[4:n])
		}
		a = a[min((n+3)&^3, len(a)):]
	}
	return s, true
}

func address(family uint8, b []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b))
	}
	return netip.AddrFrom16([16]byte(b)).Unmap()
}

// count reads a struct tcp_info, of which older kernels have less.
func (s *socket) count(b []byte) {
	var info unix.TCPInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info)), b)
	s.rttUS, s.retransmits, s.received = info.Rtt, uint64(info.Total_retrans), info.Bytes_received
	if len(b) >= int(unsafe.Offsetof(info.Bytes_retrans))+8 {
		s.sent = info.Bytes_sent - min(info.Bytes_retrans, info.Bytes_sent)
	} else {
		s.sent = info.Bytes_acked // before 4.19
	}
	// the peer's FIN counts as a byte
	if s.received > 0 && (s.state == closeWait || s.state == lastAck || s.state == closing) {
		s.received--
	}
}

// openDiag opens a netlink socket in the network namespace of this thread.
func openDiag() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, fmt.Errorf("open a netlink socket: %w", err)
	}
	// The kernel answers while it is asked; this bounds a mistake.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("set the netlink socket's patience: %w", err)
	}
	return fd, nil
}

// openDiagIn opens netlink sockets in the network namespaces of processes, -1
// where that is not allowed. The thread that went there ends.
func openDiagIn(proc string, pids []uint32) []int {
	fds := make([]int, len(pids))
	var enter func(done chan<- struct{})
	enter = func(done chan<- struct{}) {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread never ends, and is what others take for the process.
			defer runtime.UnlockOSThread()
			other := make(chan struct{})
			go enter(other)
			<-other
			return
		}
		// Locked for good: no other goroutine may come to run there.
		for i, pid := range pids {
			fds[i] = -1
			ns, err := os.Open(filepath.Join(proc, strconv.FormatUint(uint64(pid), 10), "ns/net"))
			if err != nil {
				continue
			}
			if unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) == nil {
				if fd, err := openDiag(); err == nil {
					fds[i] = fd
				}
			}
			ns.Close()
		}
	}
	done := make(chan struct{})
	go enter(done)
	<-done
	return fds
}
