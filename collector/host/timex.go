package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func openTimex(*sources) func(*batch) error {
	const ppm = 1 << 16 // adjtimex counts in parts per million, with a fraction of 16 bits
	simple := func(make func(string, string, ...string) *family, name, help string) *family {
		return make("node_timex_"+name, help)
	}
	offset := simple(gauge, "offset_seconds", "Time offset in between local system and reference clock.")
	freq := simple(gauge, "frequency_adjustment_ratio", "Local clock frequency adjustment.")
	maxError := simple(gauge, "maxerror_seconds", "Maximum error in seconds.")
	estimated := simple(gauge, "estimated_error_seconds", "Estimated error in seconds.")
	status := simple(gauge, "status", "Value of the status array bits.")
	constant := simple(gauge, "loop_time_constant", "Phase-locked loop time constant.")
	tick := simple(gauge, "tick_seconds", "Seconds between clock ticks.")
	ppsFreq := simple(gauge, "pps_frequency_hertz", "Pulse per second frequency.")
	jitter := simple(gauge, "pps_jitter_seconds", "Pulse per second jitter.")
	shift := simple(gauge, "pps_shift_seconds", "Pulse per second interval duration.")
	stability := simple(gauge, "pps_stability_hertz", "Pulse per second stability, average of recent frequency changes.")
	jitters := simple(counter, "pps_jitter_total", "Pulse per second count of jitter limit exceeded events.")
	calibrations := simple(counter, "pps_calibration_total", "Pulse per second count of calibration intervals.")
	errs := simple(counter, "pps_error_total", "Pulse per second count of calibration errors.")
	exceeded := simple(counter, "pps_stability_exceeded_total", "Pulse per second count of stability limit exceeded events.")
	tai := simple(gauge, "tai_offset_seconds", "International Atomic Time (TAI) offset.")
	sync := simple(gauge, "sync_status", "Is clock synchronized to a reliable server (1 = yes, 0 = no).")
	return func(b *batch) error {
		var t unix.Timex
		state, err := unix.Adjtimex(&t)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			return errNoData // a container without the right to ask
		}
		if err != nil {
			return fmt.Errorf("adjtimex: %w", err)
		}
		unit := float64(micro)
		if t.Status&unix.STA_NANO != 0 {
			unit = nano
		}
		b.add(sync, truth(state != unix.TIME_ERROR))
		b.add(offset, float64(t.Offset)/unit)
		b.add(freq, 1+float64(t.Freq)/ppm/micro)
		b.add(maxError, float64(t.Maxerror)/micro)
		b.add(estimated, float64(t.Esterror)/micro)
		b.add(status, float64(t.Status))
		b.add(constant, float64(t.Constant))
		b.add(tick, float64(t.Tick)/micro)
		b.add(ppsFreq, float64(t.Ppsfreq)/ppm)
		b.add(jitter, float64(t.Jitter)/unit)
		b.add(shift, float64(t.Shift))
		b.add(stability, float64(t.Stabil)/ppm)
		b.add(jitters, float64(t.Jitcnt))
		b.add(calibrations, float64(t.Calcnt))
		b.add(errs, float64(t.Errcnt))
		b.add(exceeded, float64(t.Stbcnt))
		b.add(tai, float64(t.Tai))
		return nil
	}
}
