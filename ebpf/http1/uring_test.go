package http1

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vedette-io/vedette/ebpf/bpf"
	"github.com/vedette-io/vedette/ebpf/feature/featuretest"
)

// A server that reads and writes through io_uring is not followed, and that is
// told.
func TestHTTPUring(t *testing.T) {
	f := newFeature(t)
	reg := featuretest.Start(t, f, nil)
	if f.objects.Maps[bpf.HttpSyscallMapReturned] != nil {
		t.Skip("loaded by the return of system calls, which sees nothing of io_uring")
	}
	lost := func() (n float64) {
		for _, m := range featuretest.Family(t, reg, "vedette_ebpf_http_lost_total", map[string]string{"reason": "io_uring"}) {
			n += m.Counter.GetValue()
		}
		return n
	}
	addr, _ := featuretest.StartRole(t, "uring")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		t.Skip("io_uring is not to be had: ", addr)
	}
	before := lost()
	const requests = 10
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	defer c.Close()
	for range requests {
		_, err := fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		require.NoError(t, err)
		_, err = io.ReadFull(c, make([]byte, len(uringResponse)))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return lost()-before >= 2*requests }, time.Minute, 10*time.Millisecond)
	require.Empty(t, countsOn(t, reg, "server", featuretest.PortOf(t, addr)))
}

const uringResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Of the kernel's interface: operations, flags, and where its rings are mapped.
const (
	uringSend, uringReceive = 26, 27
	uringGetEvents          = 1
	uringSQRing             = 0
	uringCQRing             = 0x8000000
	uringSQEs               = 0x10000000
)

type uringOffsets struct {
	head, tail, mask, entries, flags, dropped, array, resv uint32
	user                                                   uint64
}

type uringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	resv                                                 [3]uint32
	sq, cq                                               uringOffsets
}

// uringServer is the role uring: one connection, served through a ring of one
// operation at a time.
func uringServer() {
	if err := serveUring(); err != nil {
		fmt.Println(err)
	}
}

func serveUring() error {
	runtime.LockOSThread()
	var p uringParams
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return fmt.Errorf("set up io_uring: %w", errno)
	}
	defer unix.Close(int(fd))
	sq, err := unix.Mmap(int(fd), uringSQRing, int(p.sq.array+4*p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the ring of submissions: %w", err)
	}
	cq, err := unix.Mmap(int(fd), uringCQRing, int(p.cq.dropped+16*p.cqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the ring of completions: %w", err)
	}
	sqes, err := unix.Mmap(int(fd), uringSQEs, int(64*p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the submissions: %w", err)
	}
	at := func(b []byte, off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&b[off])) }
	do := func(op uint8, conn int, b []byte) (int32, error) {
		tail := *at(sq, p.sq.tail)
		i := tail & *at(sq, p.sq.mask)
		e := sqes[64*i : 64*i+64]
		clear(e)
		e[0] = op
		*(*int32)(unsafe.Pointer(&e[4])) = int32(conn)
		*(*uint64)(unsafe.Pointer(&e[16])) = uint64(uintptr(unsafe.Pointer(&b[0])))
		*(*uint32)(unsafe.Pointer(&e[24])) = uint32(len(b))
		*at(sq, p.sq.array+4*i) = i
		*at(sq, p.sq.tail) = tail + 1
		if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, uringGetEvents, 0, 0); errno != 0 {
			return 0, fmt.Errorf("enter io_uring: %w", errno)
		}
		head := *at(cq, p.cq.head)
		// Of completions, this field says where they are.
		cqe := p.cq.dropped + 16*(head&*at(cq, p.cq.mask))
		n := *(*int32)(unsafe.Pointer(&cq[cqe+8]))
		*at(cq, p.cq.head) = head + 1
		return n, nil
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	c, err := l.Accept()
	if err != nil {
		return err
	}
	file, err := c.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(int(file.Fd()), false); err != nil {
		return err
	}
	// Memory that does not move, since only the kernel knows of its address.
	memory, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("map memory: %w", err)
	}
	request, response := memory[:4096], memory[4096:4096+len(uringResponse)]
	copy(response, uringResponse)
	for {
		n, err := do(uringReceive, int(file.Fd()), request)
		if err != nil || n <= 0 {
			return err
		}
		if _, err := do(uringSend, int(file.Fd()), response); err != nil {
			return err
		}
	}
}
