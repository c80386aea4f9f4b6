package host

import "strings"

// The files of /sys/class/dmi/id that are shown, by label.
var dmiFiles = [...][2]string{
	{"bios_date", "bios_date"},
	{"bios_release", "bios_release"},
	{"bios_vendor", "bios_vendor"},
	{"bios_version", "bios_version"},
	{"board_asset_tag", "board_asset_tag"},
	{"board_name", "board_name"},
	{"board_serial", "board_serial"},
	{"board_vendor", "board_vendor"},
	{"board_version", "board_version"},
	{"chassis_asset_tag", "chassis_asset_tag"},
	{"chassis_serial", "chassis_serial"},
	{"chassis_vendor", "chassis_vendor"},
	{"chassis_version", "chassis_version"},
	{"product_family", "product_family"},
	{"product_name", "product_name"},
	{"product_serial", "product_serial"},
	{"product_sku", "product_sku"},
	{"product_uuid", "product_uuid"},
	{"product_version", "product_version"},
	{"system_vendor", "sys_vendor"},
}

func openDMI(s *sources) func(*batch) error {
	const help = "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, bios_version, board_asset_tag, " +
		"board_name, board_serial, board_vendor, board_version, chassis_asset_tag, chassis_serial, chassis_vendor, chassis_version, " +
		"product_family, product_name, product_serial, product_sku, product_uuid, product_version, system_vendor if provided by DMI."
	var r reader
	var info *family
	var values []string
	return func(b *batch) error {
		if info == nil { // the firmware says the same until the next boot
			var labels []string
			for _, f := range dmiFiles {
				if text, err := r.text(s.sys("class/dmi/id", f[1])); err == nil {
					labels = append(labels, f[0])
					values = append(values, strings.ToValidUTF8(text, "\uFFFD"))
				}
			}
			if len(labels) == 0 {
				return errNoData
			}
			info = gauge("node_dmi_info", help, labels...)
		}
		b.add(info, 1, values...)
		return nil
	}
}
