package host

import (
	"bytes"
	"cmp"
	"regexp"
	"strings"
)

// Partitions and memory disks are left out as node_exporter does.
const disksExclude = `^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$`

// What the kernel counts is divided by one of these; times it says in thousandths
// of a second or smaller parts, and sectors are of 512 bytes whatever the disk has.
const (
	milli  = 1e3
	micro  = 1e6
	nano   = 1e9
	sector = 1.0 / 512
)

// diskField is a column of /proc/diskstats after the name, and what it is divided
// by.
type diskField struct {
	family *family
	unit   float64
}

type diskstats struct {
	src      *sources
	reader   reader
	excluded map[string]bool
	exclude  *regexp.Regexp
	columns  []diskField

	info, mapper, filesystem      *family
	cache, cacheEnabled, rotation *family
}

func openDiskstats(s *sources) func(*batch) error {
	d := &diskstats{
		src: s, excluded: map[string]bool{}, exclude: regexp.MustCompile(disksExclude),
		info: gauge("node_disk_info", "Info of /sys/block/<block_device>.",
			"device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"),
		mapper: gauge("node_disk_device_mapper_info", "Info about disk device mapper.",
			"device", "name", "uuid", "vg_name", "lv_name", "lv_layer"),
		filesystem: gauge("node_disk_filesystem_info", "Info about disk filesystem.",
			"device", "type", "usage", "uuid", "version"),
		cache:        gauge("node_disk_ata_write_cache", "ATA disk has a write cache.", "device"),
		cacheEnabled: gauge("node_disk_ata_write_cache_enabled", "ATA disk has its write cache enabled.", "device"),
		rotation:     gauge("node_disk_ata_rotation_rate_rpm", "ATA disk rotation rate in RPMs (0 for SSDs).", "device"),
	}
	column := func(unit float64, make func(string, string, ...string) *family, name, help string) {
		d.columns = append(d.columns, diskField{make("node_disk_"+name, help, "device"), unit})
	}
	column(1, counter, "reads_completed_total", "The total number of reads completed successfully.")
	column(1, counter, "reads_merged_total", "The total number of reads merged.")
	column(sector, counter, "read_bytes_total", "The total number of bytes read successfully.")
	column(milli, counter, "read_time_seconds_total", "The total number of seconds spent by all reads.")
	column(1, counter, "writes_completed_total", "The total number of writes completed successfully.")
	column(1, counter, "writes_merged_total", "The number of writes merged.")
	column(sector, counter, "written_bytes_total", "The total number of bytes written successfully.")
	column(milli, counter, "write_time_seconds_total", "This is the total number of seconds spent by all writes.")
	column(1, gauge, "io_now", "The number of I/Os currently in progress.")
	column(milli, counter, "io_time_seconds_total", "Total seconds spent doing I/Os.")
	column(milli, counter, "io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os.")
	column(1, counter, "discards_completed_total", "The total number of discards completed successfully.")
	column(1, counter, "discards_merged_total", "The total number of discards merged.")
	column(1, counter, "discarded_sectors_total", "The total number of sectors discarded successfully.")
	column(milli, counter, "discard_time_seconds_total", "This is the total number of seconds spent by all discards.")
	column(1, counter, "flush_requests_total", "The total number of flush requests completed successfully")
	column(milli, counter, "flush_requests_time_seconds_total", "This is the total number of seconds spent by all flush requests.")
	return d.collect
}

func (d *diskstats) collect(b *batch) error {
	data, err := d.reader.read(d.src.proc("diskstats"))
	if err != nil {
		return absent(err)
	}
	type disk struct{ major, minor, name string }
	var disks []disk
	var room [24][]byte
	for line := range lines(data) {
		words := fields(room[:0], line)
		if len(words) < 4 || d.excludes(words[2]) {
			continue
		}
		at := disk{string(words[0]), string(words[1]), string(words[2])}
		disks = append(disks, at)
		for i, word := range words[3:] {
			if i == len(d.columns) {
				break
			}
			if v, ok := parseNumber(word); ok {
				c := d.columns[i]
				b.add(c.family, v/c.unit, at.name)
			}
		}
	}
	for _, at := range disks { // the reader's buffer is free now
		d.describe(b, at.name, at.major, at.minor)
	}
	if len(disks) == 0 {
		return errNoData
	}
	return nil
}

func (d *diskstats) excludes(name []byte) bool {
	out, ok := d.excluded[string(name)]
	if !ok {
		if len(d.excluded) >= maxNames {
			clear(d.excluded)
		}
		out = d.exclude.Match(name)
		d.excluded[string(name)] = out
	}
	return out
}

// describe yields what udev and sysfs know of a disk.
func (d *diskstats) describe(b *batch, name, major, minor string) {
	rotational := "0"
	if text, err := d.reader.text(d.src.sys("block", name, "queue/rotational")); err == nil {
		rotational = text
	}
	p := d.properties(major, minor)
	serial := cmp.Or(p["SCSI_IDENT_SERIAL"], p["ID_SERIAL_SHORT"], p["ID_SERIAL"])
	b.add(d.info, 1, name, major, minor, p["ID_PATH"], p["ID_WWN"], p["ID_MODEL"], serial, p["ID_REVISION"], rotational)
	if p["DM_NAME"] != "" {
		b.add(d.mapper, 1, name, p["DM_NAME"], p["DM_UUID"], p["DM_VG_NAME"], p["DM_LV_NAME"], p["DM_LV_LAYER"])
	}
	if p["ID_FS_TYPE"] != "" {
		b.add(d.filesystem, 1, name, p["ID_FS_TYPE"], p["ID_FS_USAGE"], p["ID_FS_UUID"], p["ID_FS_VERSION"])
	}
	if p["ID_ATA"] == "" {
		return
	}
	for key, f := range map[string]*family{
		"ID_ATA_WRITE_CACHE":         d.cache,
		"ID_ATA_WRITE_CACHE_ENABLED": d.cacheEnabled,
		"ID_ATA_ROTATION_RATE_RPM":   d.rotation,
	} {
		if v, ok := parseNumber([]byte(p[key])); ok {
			b.add(f, v, name)
		}
	}
}

// properties returns what udev wrote down about a block device.
func (d *diskstats) properties(major, minor string) map[string]string {
	data, err := d.reader.read(d.src.root("run/udev/data", "b"+major+":"+minor))
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for line := range lines(data) {
		if prop, ok := bytes.CutPrefix(line, []byte("E:")); ok {
			key, value, _ := strings.Cut(string(prop), "=")
			out[key] = value
		}
	}
	return out
}
