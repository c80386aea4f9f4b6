package host

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config configures a Host.
type Config struct {
	// ProcFS is where the proc file system of the host is mounted.
	ProcFS string `yaml:"procfs"`

	// SysFS is where the sys file system of the host is mounted.
	SysFS string `yaml:"sysfs"`

	// RootFS is where the root of the host is mounted; mount points are shown
	// without it.
	RootFS string `yaml:"rootfs"`

	// Timeout is how long a collection waits for its slowest part.
	Timeout time.Duration `yaml:"timeout"`

	// Enable names parts to collect beside those that are on by default, such as
	// systemd.
	Enable []string `yaml:"enable"`

	// Disable names parts not to collect.
	Disable []string `yaml:"disable"`

	// TextfileDirectories are directories, or patterns of such, whose files *.prom
	// hold metrics to add.
	TextfileDirectories []string `yaml:"textfile_directories"`

	// MountPointsExclude is a regular expression of mount points not to measure.
	MountPointsExclude string `yaml:"mount_points_exclude"`

	// FSTypesExclude is a regular expression of types of file systems not to
	// measure.
	FSTypesExclude string `yaml:"fs_types_exclude"`

	// NetDevicesExclude is a regular expression of network devices not to measure,
	// such as ^veth.
	NetDevicesExclude string `yaml:"net_devices_exclude"`
}

// DefaultConfig returns the defaults, which are node_exporter's.
func DefaultConfig() Config {
	return Config{
		ProcFS:             "/proc",
		SysFS:              "/sys",
		RootFS:             "/",
		Timeout:            5 * time.Second,
		MountPointsExclude: `^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)`,
		FSTypesExclude: `^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|erofs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|` +
			`overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$`,
	}
}

// Validate names every bad key.
func (c Config) Validate() error {
	var errs []error
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(filepath.IsAbs(c.ProcFS), "procfs: got %q, want an absolute path", c.ProcFS)
	bad(filepath.IsAbs(c.SysFS), "sysfs: got %q, want an absolute path", c.SysFS)
	bad(filepath.IsAbs(c.RootFS), "rootfs: got %q, want an absolute path", c.RootFS)
	bad(c.Timeout >= 100*time.Millisecond && c.Timeout <= time.Minute, "timeout: got %s, want 100ms to 1m", c.Timeout)
	known := func(key string, names []string) {
		for _, name := range names {
			bad(slices.ContainsFunc(parts, func(p part) bool { return p.name == name }),
				"%s: got %q, want some of %s", key, name, strings.Join(partNames(), ", "))
		}
	}
	known("enable", c.Enable)
	known("disable", c.Disable)
	for _, name := range c.Enable {
		bad(!slices.Contains(c.Disable, name), "disable: got %q, which enable names, too", name)
	}
	for _, dir := range c.TextfileDirectories {
		_, err := filepath.Match(dir, "")
		bad(dir != "" && err == nil, "textfile_directories: got %q, want a directory or a pattern of directories", dir)
	}
	for key, pattern := range map[string]string{
		"mount_points_exclude": c.MountPointsExclude,
		"fs_types_exclude":     c.FSTypesExclude,
		"net_devices_exclude":  c.NetDevicesExclude,
	} {
		_, err := regexp.Compile(pattern)
		bad(err == nil, "%s: got %q, want a regular expression: %w", key, pattern, err)
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}

// enabled tells whether a part is to be collected.
func (c Config) enabled(p part) bool {
	if slices.Contains(c.Disable, p.name) {
		return false
	}
	return !p.off || slices.Contains(c.Enable, p.name)
}
