/*
 * A stand-in for libnvidia-ml.so.1 with two GPUs: one that supports everything,
 * and one that supports little. Structures are those of nvml.h.
 */
#include <string.h>

typedef int ret;
typedef struct gpu *dev;
enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, SMALL = 7, NOT_LOADED = 9, TIMEOUT = 10 };

struct gpu { int index; };
static struct gpu gpus[2] = {{0}, {1}};
static int events_left;

#ifdef NO_DRIVER
ret nvmlInit_v2(void) { return NOT_LOADED; }
#else
ret nvmlInit_v2(void) { events_left = 2; return OK; }
#endif
ret nvmlShutdown(void) { return OK; }

static ret say(char *to, unsigned int n, const char *text) {
	if (strlen(text) + 1 > n) return SMALL;
	strcpy(to, text);
	return OK;
}

ret nvmlSystemGetDriverVersion(char *v, unsigned int n) { return say(v, n, "570.86.15"); }
ret nvmlDeviceGetCount_v2(unsigned int *n) { *n = 2; return OK; }
ret nvmlDeviceGetHandleByIndex_v2(unsigned int i, dev *d) { if (i > 1) return INVALID; *d = &gpus[i]; return OK; }
ret nvmlDeviceGetUUID(dev d, char *s, unsigned int n) { return say(s, n, d->index ? "GPU-bbbb" : "GPU-aaaa"); }
ret nvmlDeviceGetName(dev d, char *s, unsigned int n) { return say(s, n, d->index ? "Quadro K600" : "NVIDIA H200"); }
ret nvmlDeviceGetMinorNumber(dev d, unsigned int *v) { *v = d->index ? 0 : 1; return OK; }

struct pci { char legacy[16]; unsigned int domain, bus, device, id, sub; char bus_id[32]; };
ret nvmlDeviceGetPciInfo_v3(dev d, struct pci *p) {
	memset(p, 0, sizeof *p);
	strcpy(p->legacy, "0000:3b:00.0");
	strcpy(p->bus_id, d->index ? "00000000:AF:00.0" : "00000000:3B:00.0");
	return OK;
}

struct memory { unsigned long long total, free, used; };
ret nvmlDeviceGetMemoryInfo(dev d, struct memory *m) { m->total = 1073741824; m->free = 1063256064; m->used = 10485760; return OK; }
struct memory2 { unsigned int version; unsigned long long total, reserved, free, used; };
ret nvmlDeviceGetMemoryInfo_v2(dev d, struct memory2 *m) {
	if (d->index) return UNSUPPORTED;
	if (m->version != (sizeof(struct memory2) | 2 << 24)) return INVALID;
	m->total = 150754820096; m->reserved = 524288000; m->free = 149181956096; m->used = 1048576000;
	return OK;
}

#define ONE(name, type, value) ret name(dev d, type *v) { if (d->index) return UNSUPPORTED; *v = value; return OK; }
ONE(nvmlDeviceGetPowerUsage, unsigned int, 123456)
ONE(nvmlDeviceGetPowerManagementLimit, unsigned int, 700000)
ONE(nvmlDeviceGetEnforcedPowerLimit, unsigned int, 650000)
ONE(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, 9876543210ULL)
ONE(nvmlDeviceGetPerformanceState, unsigned int, 2)
ONE(nvmlDeviceGetPcieReplayCounter, unsigned int, 4)
ONE(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, 0x44)
ret nvmlDeviceGetFanSpeed(dev d, unsigned int *v) { if (!d->index) return UNSUPPORTED; *v = 30; return OK; }
ret nvmlDeviceGetTemperature(dev d, unsigned int sensor, unsigned int *v) { if (sensor) return INVALID; *v = d->index ? 45 : 61; return OK; }
ret nvmlDeviceGetClockInfo(dev d, unsigned int which, unsigned int *v) {
	if (d->index) return UNSUPPORTED;
	*v = which == 1 ? 1980 : which == 2 ? 3201 : 1;
	return OK;
}
ret nvmlDeviceGetEncoderUtilization(dev d, unsigned int *v, unsigned int *us) { if (d->index) return UNSUPPORTED; *v = 5; *us = 167000; return OK; }
ret nvmlDeviceGetDecoderUtilization(dev d, unsigned int *v, unsigned int *us) { if (d->index) return UNSUPPORTED; *v = 6; *us = 167000; return OK; }
struct rates { unsigned int gpu, memory; };
ret nvmlDeviceGetUtilizationRates(dev d, struct rates *r) { if (d->index) return UNSUPPORTED; r->gpu = 87; r->memory = 42; return OK; }
ret nvmlDeviceGetTotalEccErrors(dev d, int severity, int since, unsigned long long *v) { if (d->index) return UNSUPPORTED; *v = 10 * since + severity + 1; return OK; }
ret nvmlDeviceGetRemappedRows(dev d, unsigned int *c, unsigned int *u, unsigned int *p, unsigned int *f) {
	if (d->index) return UNSUPPORTED;
	*c = 3; *u = 2; *p = 0; *f = 1;
	return OK;
}
struct violation { unsigned long long reference, time; };
ret nvmlDeviceGetViolationStatus(dev d, int policy, struct violation *v) {
	if (d->index || policy > 1) return UNSUPPORTED;
	v->reference = 1; v->time = 1000000ULL * (policy + 1);
	return OK;
}

struct field {
	unsigned int id, scope; long long time, latency; unsigned int kind; ret result;
	union { double d; int i; unsigned int u; unsigned long long ull; long long sll; unsigned short us; } value;
};
ret nvmlDeviceGetFieldValues(dev d, int n, struct field *f) {
	if (d->index) return UNSUPPORTED;
	for (int i = 0; i < n; i++) {
		f[i].result = OK;
		switch (f[i].id) {
		case 82: f[i].kind = 1; f[i].value.ull = ~0ULL; f[i].value.u = 70; break;
		case 38: f[i].kind = 3; f[i].value.ull = 11; break;
		case 52: f[i].kind = 4; f[i].value.sll = -1; break;
		case 138: f[i].kind = 3; f[i].value.ull = 5000000000ULL; if (f[i].scope != 0xffffffff) f[i].result = INVALID; break;
		case 139: f[i].kind = 3; f[i].value.ull = 7000000000ULL; if (f[i].scope != 0xffffffff) f[i].result = INVALID; break;
		default: f[i].result = UNSUPPORTED;
		}
	}
	return OK;
}

struct process { unsigned int pid; unsigned long long used; unsigned int gi, ci; };
static ret processes(unsigned int *n, struct process *p, unsigned int have, unsigned int first) {
	if (*n < have || !p) { *n = have; return SMALL; }
	for (unsigned int i = 0; i < have; i++) p[i] = (struct process){first + i, (i + 1) * 1048576ULL, ~0u, ~0u};
	*n = have;
	return OK;
}
ret nvmlDeviceGetComputeRunningProcesses_v3(dev d, unsigned int *n, struct process *p) { if (d->index) { *n = 0; return OK; } return processes(n, p, 2, 4000000001u); }
ret nvmlDeviceGetGraphicsRunningProcesses_v3(dev d, unsigned int *n, struct process *p) { if (d->index) return UNSUPPORTED; return processes(n, p, 1, 4000000002u); }
struct sample { unsigned int pid; unsigned long long time; unsigned int sm, mem, enc, dec; };
ret nvmlDeviceGetProcessUtilization(dev d, struct sample *s, unsigned int *n, unsigned long long since) {
	if (d->index) return UNSUPPORTED;
	if (since >= 2000) return 6;
	if (!s || *n < 3) { *n = 3; return SMALL; }
	s[0] = (struct sample){4000000001u, 2000, 50, 20, 1, 2};
	s[1] = (struct sample){4000000001u, 1000, 99, 99, 99, 99};
	s[2] = (struct sample){4000000009u, 1500, 1, 1, 1, 1};
	*n = 3;
	return OK;
}

struct event { dev device; unsigned long long kind, data; unsigned int gi, ci; };
ret nvmlEventSetCreate(void **set) { *set = &events_left; return OK; }
ret nvmlEventSetFree(void *set) { return set == &events_left ? OK : INVALID; }
ret nvmlDeviceRegisterEvents(dev d, unsigned long long kinds, void *set) { return d->index ? UNSUPPORTED : kinds == 8 ? OK : INVALID; }
ret nvmlEventSetWait_v2(void *set, struct event *e, unsigned int ms) {
	if (!events_left) return TIMEOUT;
	*e = (struct event){&gpus[0], 8, 80 - events_left--, ~0u, ~0u};
	return OK;
}
