package dns

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// vectors are the buffers of recvmmsg and sendmmsg.
type vectors struct {
	messages [3]message
	iovs     [3]unix.Iovec
	from     [3]unix.RawSockaddrInet4
	buffers  [3][512]byte
}

func (v *vectors) point() {
	for i := range v.messages {
		v.iovs[i] = unix.Iovec{Base: &v.buffers[i][0], Len: uint64(len(v.buffers[i]))}
		v.messages[i].header = unix.Msghdr{
			Name: (*byte)(unsafe.Pointer(&v.from[i])), Namelen: uint32(unsafe.Sizeof(v.from[i])), Iov: &v.iovs[i], Iovlen: 1,
		}
	}
}

// receive waits for n questions and reads them with one call.
func (v *vectors) receive(fd, n int) int {
	v.point()
	for read := 0; ; {
		got, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.messages[0])), uintptr(n), 0, 0, 0)
		if errno == unix.EAGAIN {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, -1)
			continue
		}
		if errno != 0 {
			fatal(errno)
		}
		if read += int(got); read == n {
			return read
		}
		fatal(unix.ENODATA)
	}
}

// answer sends n answers back with one call.
func (v *vectors) answer(fd, n int) {
	for i := range n {
		length := v.messages[i].length
		binary.BigEndian.PutUint16(v.buffers[i][2:], 0x8180)
		v.iovs[i].Len = uint64(length)
	}
	sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&v.messages[0])), uintptr(n), 0, 0, 0)
	if errno != 0 || int(sent) != n {
		fatal(errno)
	}
}
