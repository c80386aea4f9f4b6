//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package vfs

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the flock, which belongs to the open file: a second Lock in
// this process is refused too, and the kernel releases it if the process dies.
func lockFile(f *os.File) error {
	err := control(f, func(fd int) error {
		return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	})
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func mapOS(f *os.File, size int) (*Mapping, error) {
	var data []byte
	err := control(f, func(fd int) (err error) {
		data, err = syscall.Mmap(fd, 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Mapping{data: data, unmap: func() error { return syscall.Munmap(data) }}, nil
}

// control calls do with f's descriptor, which stays open meanwhile, again for
// as long as a signal interrupts it.
func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var doErr error
	err = conn.Control(func(fd uintptr) {
		for {
			if doErr = do(int(fd)); !errors.Is(doErr, syscall.EINTR) {
				return
			}
		}
	})
	return errors.Join(err, doErr)
}
