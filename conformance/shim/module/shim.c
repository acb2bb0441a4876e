// A PKCS #11 module that forwards every call to another module and, on request,
// misbehaves as real modules have been seen to. Package shim compiles it, with
// REAL (the other module) and CONTROL (a file that both ends map), and says
// through CONTROL what to do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t;
enum { FUNCTIONS = 68, FAULTS = 8, SESSIONS = 4096 };

// Every function of the standard takes at most eight arguments, each an integer
// or a pointer: passing eight on does for all (System V and AAPCS64).
typedef ulong_t (*any_fn)(ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t, ulong_t);
typedef struct { unsigned char major, minor; any_fn fn[FUNCTIONS]; } function_list;

// The layout is shim.go's: control and fault there.
typedef struct {
	_Atomic uint32_t active;
	uint32_t function, when, action, code, slot;
	uint64_t delay; // nanoseconds
	int64_t skip, times;
	_Atomic int64_t seen;
} fault_t;
typedef struct { fault_t faults[FAULTS]; _Atomic uint64_t calls[FUNCTIONS], overlaps; } control_t;

enum { BEFORE, AFTER };
enum { FAIL = 1, WAIT, HANG, CRASH, CORRUPT, ZERO, SHORT_SIGNATURE, SWAP_KEY, DROP_SESSIONS, LOGOUT, STICK, LIMIT };
enum { // places in the function list
	fn_Finalize = 1, fn_GetFunctionList = 3, fn_GetSlotInfo = 5, fn_InitToken = 9, fn_OpenSession = 12, fn_CloseSession = 13,
	fn_CloseAllSessions = 14, fn_GetSessionInfo = 15, fn_Logout = 19, fn_FindObjectsInit = 26, fn_FindObjects = 27, fn_FindObjectsFinal = 28, fn_SignInit = 42, fn_Sign = 43
};
enum { ANY = 0xffffffff };

static control_t *control;
static function_list *real, ours;

// Modules crash when a session is closed under a call: only what does that on
// purpose holds this whole.
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

static pthread_mutex_t list = PTHREAD_MUTEX_INITIALIZER;
static ulong_t sessions[SESSIONS], slots[SESSIONS];

static void note_session(ulong_t from, ulong_t to, ulong_t slot) {
	pthread_mutex_lock(&list);
	for (int i = 0; i < SESSIONS; i++)
		if (sessions[i] == from) { sessions[i] = to; slots[i] = slot; break; }
	pthread_mutex_unlock(&list);
}

// concerns reports whether a call whose first argument is a is about a slot.
static int concerns(int fn, ulong_t a, uint32_t slot) {
	if ((fn >= fn_GetSlotInfo && fn <= fn_InitToken) || fn == fn_OpenSession || fn == fn_CloseAllSessions) return (uint32_t)a == slot;
	int found = 0;
	pthread_mutex_lock(&list);
	for (int i = 0; i < SESSIONS && !found; i++) found = a && sessions[i] == a && (uint32_t)slots[i] == slot;
	pthread_mutex_unlock(&list);
	return found;
}

#define CALL(n, a, b, c, d) real->fn[n]((ulong_t)(a), (ulong_t)(b), (ulong_t)(c), (ulong_t)(d), 0, 0, 0, 0)

// full reports whether n sessions are open.
static int full(uint32_t n) {
	uint32_t open = 0;
	pthread_mutex_lock(&list);
	for (int i = 0; i < SESSIONS; i++) open += sessions[i] != 0;
	pthread_mutex_unlock(&list);
	return open >= n;
}

static void drop_sessions(uint32_t slot) {
	pthread_rwlock_wrlock(&gate);
	pthread_mutex_lock(&list);
	for (int i = 0; i < SESSIONS; i++)
		if (sessions[i] && (!slot || (uint32_t)slots[i] == slot)) { CALL(fn_CloseSession, sessions[i], 0, 0, 0); sessions[i] = 0; }
	pthread_mutex_unlock(&list);
	pthread_rwlock_unlock(&gate);
}

static void logout(ulong_t session) {
	pthread_rwlock_wrlock(&gate);
	CALL(fn_Logout, session, 0, 0, 0);
	pthread_rwlock_unlock(&gate);
}

// another_key finds a private key other than the one that was asked for.
static ulong_t another_key(ulong_t session, ulong_t key) {
	struct { ulong_t slot, state, flags, error; } info;
	struct { ulong_t type; void *value; ulong_t length; } want;
	ulong_t class = 3, mine = 0, found[64], n = 0; // CKO_PRIVATE_KEY
	want.type = 0; want.value = &class; want.length = sizeof class;
	if (CALL(fn_GetSessionInfo, session, &info, 0, 0)) return key;
	if (real->fn[fn_OpenSession](info.slot, 4, 0, 0, (ulong_t)&mine, 0, 0, 0)) return key;
	if (!CALL(fn_FindObjectsInit, mine, &want, 1, 0)) {
		CALL(fn_FindObjects, mine, found, 64, &n);
		CALL(fn_FindObjectsFinal, mine, 0, 0, 0);
	}
	CALL(fn_CloseSession, mine, 0, 0, 0);
	for (ulong_t i = 0; i < n; i++)
		if (found[i] != key) return found[i];
	return key;
}

static void pause_for(uint64_t ns) {
	struct timespec t = { ns / 1000000000, ns % 1000000000 };
	while (nanosleep(&t, &t)) {}
}

// due finds a fault that this call is to meet.
static fault_t *due(int fn, uint32_t when, ulong_t a) {
	for (int i = 0; i < FAULTS; i++) {
		fault_t *f = &control->faults[i];
		if (!atomic_load(&f->active) || f->when != when || (f->function != (uint32_t)fn && f->function != ANY)) continue;
		if (f->slot && !concerns(fn, a, f->slot)) continue;
		int64_t n = atomic_fetch_add(&f->seen, 1);
		if (n >= f->skip && (!f->times || n < f->skip + f->times)) return f;
	}
	return NULL;
}

// spoil changes a signature that was made.
static void spoil(fault_t *f, ulong_t sig, ulong_t length) {
	unsigned char *s = (unsigned char *)sig;
	ulong_t *n = (ulong_t *)length;
	if (!s || !n || !*n) return;
	switch (f->action) {
	case CORRUPT: s[*n / 2] ^= 1; break;
	case ZERO: memset(s, 0, *n); break;
	case SHORT_SIGNATURE: *n -= 1; break;
	}
}

// The address is the kernel's: some compilers leave out a write to 0.
static void crash(void) { *(volatile int *)-4096L = 1; }

static void hang(fault_t *f) {
	while (atomic_load(&f->active)) pause_for(1000000);
}

static ulong_t forward(int fn, ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) {
	pthread_rwlock_rdlock(&gate);
	ulong_t rv = real->fn[fn](a, b, c, d, e, f, g, h);
	pthread_rwlock_unlock(&gate);
	if (rv == 0 && fn == fn_OpenSession) note_session(0, *(ulong_t *)e, a);
	if (fn == fn_CloseSession) note_session(a, 0, 0);
	if (fn == fn_Finalize) {
		pthread_mutex_lock(&list);
		memset(sessions, 0, sizeof sessions);
		pthread_mutex_unlock(&list);
	}
	return rv;
}

static ulong_t misbehave(int fn, ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) {
	// A length query makes no signature: it meets no fault.
	int query = fn == fn_Sign && d == 0;
	fault_t *x = query ? NULL : due(fn, BEFORE, a);
	if (x) switch (x->action) {
	case FAIL: return x->code;
	case WAIT: pause_for(x->delay); break;
	case HANG: hang(x); break;
	case CRASH: crash(); break;
	case DROP_SESSIONS: drop_sessions(x->slot); break;
	case LOGOUT: logout(a); break;
	case SWAP_KEY: if (fn == fn_SignInit) c = another_key(a, c); break;
	case STICK: if (fn == fn_SignInit) forward(fn, a, b, c, d, e, f, g, h); break;
	case LIMIT: if (fn == fn_OpenSession && full(x->code)) return 0xb1; break; // CKR_SESSION_COUNT
	}
	ulong_t rv = forward(fn, a, b, c, d, e, f, g, h);
	if (fn == fn_Sign && rv == 0 && x) spoil(x, d, e);
	x = query ? NULL : due(fn, AFTER, a);
	if (x) switch (x->action) {
	case FAIL: return x->code;
	case WAIT: pause_for(x->delay); break;
	case HANG: hang(x); break;
	case CRASH: crash(); break;
	default: if (fn == fn_Sign && rv == 0) spoil(x, d, e);
	}
	return rv;
}

static _Atomic int inside; // calls under way

static ulong_t around(int fn, ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) {
	atomic_fetch_add(&control->calls[fn], 1);
	if (atomic_fetch_add(&inside, 1) && fn == fn_Finalize) atomic_fetch_add(&control->overlaps, 1);
	ulong_t rv = misbehave(fn, a, b, c, d, e, f, g, h);
	atomic_fetch_sub(&inside, 1);
	return rv;
}

#define W(n) static ulong_t w##n(ulong_t a, ulong_t b, ulong_t c, ulong_t d, ulong_t e, ulong_t f, ulong_t g, ulong_t h) \
	{ return around(n, a, b, c, d, e, f, g, h); }
#define TEN(x, t) x(t##0) x(t##1) x(t##2) x(t##3) x(t##4) x(t##5) x(t##6) x(t##7) x(t##8) x(t##9)
#define ALL(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) TEN(x, 1) TEN(x, 2) TEN(x, 3) TEN(x, 4) TEN(x, 5) \
	x(60) x(61) x(62) x(63) x(64) x(65) x(66) x(67)
ALL(W)

static ulong_t list_ours(function_list **to) { *to = &ours; return 0; }

static void die(const char *why) { fprintf(stderr, "shim: %s\n", why); abort(); }

__attribute__((constructor)) static void load(void) {
	int fd = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (fd < 0) die("no control file");
	control = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (control == MAP_FAILED) die("control file can't be mapped");
	close(fd);
	void *lib = dlopen(REAL, RTLD_NOW | RTLD_LOCAL);
	if (!lib) die(dlerror());
	ulong_t (*get)(function_list **) = (ulong_t (*)(function_list **))dlsym(lib, "C_GetFunctionList");
	if (!get || get(&real)) die("C_GetFunctionList failed");
	ours.major = real->major;
	ours.minor = real->minor;
#define PUT(n) ours.fn[n] = w##n;
	ALL(PUT)
	ours.fn[fn_GetFunctionList] = (any_fn)list_ours;
}

ulong_t C_GetFunctionList(function_list **to) { return list_ours(to); }
