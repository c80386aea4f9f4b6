package feature

// Reason tells an error as vedette_ebpf_feature does.
func Reason(prefix string, err error) string { return prefix + short(err) }
