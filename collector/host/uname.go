package host

import "golang.org/x/sys/unix"

func openUname(*sources) func(*batch) error {
	info := gauge("node_uname_info", "Labeled system information as provided by the uname system call.",
		"sysname", "release", "version", "machine", "nodename", "domainname")
	return func(b *batch) error {
		var u unix.Utsname
		if err := unix.Uname(&u); err != nil {
			return err
		}
		text := func(b [65]byte) string { return unix.ByteSliceToString(b[:]) }
		b.add(info, 1, text(u.Sysname), text(u.Release), text(u.Version), text(u.Machine), text(u.Nodename), text(u.Domainname))
		return nil
	}
}
