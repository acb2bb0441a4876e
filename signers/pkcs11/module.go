package pkcs11

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// The parts of PKCS #11 v2.40 that are used here directly: CK_FUNCTION_LIST is
// a version and then functions in a fixed order (section 5.2 of the standard).
typedef unsigned long ck_ulong;
typedef struct { unsigned char major, minor; void *fn[68]; } function_list;
enum { fn_Login = 18, fn_GetAttributeValue = 24, fn_SignInit = 42, fn_Sign = 43 };

typedef struct { ck_ulong mechanism; void *parameter; ck_ulong length; } ck_mechanism;
typedef ck_ulong (*login_fn)(ck_ulong, ck_ulong, const unsigned char *, ck_ulong);
typedef ck_ulong (*sign_init_fn)(ck_ulong, ck_mechanism *, ck_ulong);
typedef ck_ulong (*sign_fn)(ck_ulong, const unsigned char *, ck_ulong, unsigned char *, ck_ulong *);

// One signature to make. Short input stands in place, long input in memory of
// its own; the longest signature is RSA 4096.
typedef struct {
	ck_ulong mechanism, key, rv, data_length, signature_length;
	ck_ulong pss[3]; // CK_RSA_PKCS_PSS_PARAMS: hash, mask function, salt length
	unsigned char *long_data;
	unsigned char data[1024], signature[512];
} sign_job;

// What one crossing makes, and when its present call began (CLOCK_MONOTONIC,
// in nanoseconds; 0 for none): from outside, a call that hangs is seen only so.
enum { batch_most = 16 };
typedef struct { long long began; sign_job jobs[batch_most]; } sign_batch_t;

static long long monotonic(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long batch_began(sign_batch_t *b) { return __atomic_load_n(&b->began, __ATOMIC_RELAXED); }

// The same library by another path is the same handle.
static void *open_library(const char *path, const char **why) {
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL) *why = dlerror();
	return lib;
}

static function_list *functions(void *lib) {
	function_list *list = NULL;
	ck_ulong (*get)(function_list **) = (ck_ulong (*)(function_list **))dlsym(lib, "C_GetFunctionList");
	return get != NULL && get(&list) == 0 ? list : NULL;
}

static ck_ulong login(function_list *l, ck_ulong session, const unsigned char *pin, ck_ulong length) {
	return ((login_fn)l->fn[fn_Login])(session, 1, pin, length); // CKU_USER
}

// Signs n jobs in one crossing, with C_SignInit and one C_Sign each: the length
// is known, so it is not asked for. It stops at the first error, since the
// session can't be trusted after one; jobs it did not come to have rv -1.
static void sign_batch(function_list *l, ck_ulong session, sign_batch_t *b, int n) {
	for (int i = 0; i < n; i++) b->jobs[i].rv = (ck_ulong)-1;
	for (int i = 0; i < n; i++) {
		sign_job *j = &b->jobs[i];
		__atomic_store_n(&b->began, monotonic(), __ATOMIC_RELAXED);
		ck_mechanism m = { j->mechanism, NULL, 0 };
		if (j->pss[0]) { m.parameter = j->pss; m.length = sizeof j->pss; }
		j->signature_length = sizeof j->signature;
		j->rv = ((sign_init_fn)l->fn[fn_SignInit])(session, &m, j->key);
		if (j->rv == 0)
			j->rv = ((sign_fn)l->fn[fn_Sign])(session, j->long_data ? j->long_data : j->data,
				j->data_length, j->signature, &j->signature_length);
		if (j->rv != 0) break;
	}
	__atomic_store_n(&b->began, 0, __ATOMIC_RELAXED);
}

// The CKA_IDs of some objects; a length of -1 is of one that could not be read.
enum { page_most = 128, id_most = 128 };
typedef struct { ck_ulong type; void *value; ck_ulong length; } ck_attribute;
typedef ck_ulong (*get_attribute_fn)(ck_ulong, ck_ulong, ck_attribute *, ck_ulong);
typedef struct { ck_ulong object[page_most]; long length[page_most]; unsigned char id[page_most][id_most]; } id_page;

// Reads n ids in one crossing, without asking for their lengths first.
static void read_ids(function_list *l, ck_ulong session, id_page *p, int n) {
	for (int i = 0; i < n; i++) {
		ck_attribute a = { 0x102, p->id[i], id_most };
		ck_ulong rv = ((get_attribute_fn)l->fn[fn_GetAttributeValue])(session, p->object[i], &a, 1);
		p->length[i] = rv == 0 && a.length <= id_most ? (long)a.length : -1;
	}
}
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/signetd/signet/signers"
)

// A module is a loaded vendor library. A process may initialise it only once,
// and one C_Finalize ends it for everybody, so each has one owner here.
type module struct {
	path string           // by which it was asked for first
	lib  unsafe.Pointer   // the loader's handle
	args string           // C_Initialize's reserved argument
	ctx  *pkcs11.Ctx      // for everything but the hot path
	list *C.function_list // for signing and login

	// gate is held in part by whoever calls the module and whole by whoever
	// finalises it: modules crash when C_Finalize meets a call under way.
	gate *semaphore.Weighted

	// life counts C_Initialize. Handles of an earlier life name nothing, or
	// worse, something of somebody else's.
	life atomic.Int64
	good atomic.Int64 // crossings that made a signature

	users  int
	tokens map[string]*sync.Mutex // by serial: one key generation at a time
}

// wholeGate is more than there are ever calls under way.
const wholeGate = 1 << 30

// modules are those that are loaded. A module is a fact of the process, not of
// a back-end, and so is this table. It goes by the loader's handle: two paths
// may lead to one library, which still is initialised once.
var modules = struct {
	sync.Mutex
	loaded map[unsafe.Pointer]*module
}{loaded: map[unsafe.Pointer]*module{}}

// acquire loads and initialises a module, or shares it.
func acquire(path, args string) (*module, error) {
	modules.Lock()
	defer modules.Unlock()
	lib, err := openLibrary(path)
	if err != nil {
		return nil, err
	}
	if m, ok := modules.loaded[lib]; ok {
		if m.args != args {
			return nil, fmt.Errorf("pkcs11: module %q is loaded with other initialize_args: %w\nhint: a module is initialised once for all its tokens: write the same for each", path, signers.ErrUnsupported)
		}
		m.users++
		return m, nil
	}
	m, err := load(path, lib, args)
	if err != nil {
		return nil, err
	}
	modules.loaded[lib] = m
	return m, nil
}

// openLibrary has a library loaded. It stays: some leave threads in it behind.
func openLibrary(path string) (unsafe.Pointer, error) {
	name := C.CString(path)
	defer C.free(unsafe.Pointer(name))
	var why *C.char
	lib := C.open_library(name, &why)
	if lib == nil {
		return nil, fmt.Errorf("pkcs11: module %q: %w: %s\nhint: check the path, and that it is built for this machine", path, errLoad, C.GoString(why))
	}
	return lib, nil
}

func load(path string, lib unsafe.Pointer, args string) (*module, error) {
	ctx := pkcs11.New(path)
	list := C.functions(lib)
	if ctx == nil || list == nil {
		return nil, fmt.Errorf("pkcs11: module %q: %w: C_GetFunctionList failed\nhint: it is no PKCS #11 module", path, errLoad)
	}
	m := &module{
		path: path, lib: lib, args: args, ctx: ctx, list: list, users: 1, tokens: map[string]*sync.Mutex{},
		gate: semaphore.NewWeighted(wholeGate),
	}
	if err := m.initialise(); err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("pkcs11: module %q: %w", path, err)
	}
	return m, nil
}

// errLoad is no ErrUnavailable: waiting does not help.
var errLoad = errors.New("the library can't be loaded")

// initialise begins a life of the module, with CKF_OS_LOCKING_OK.
func (m *module) initialise() error {
	var opts []pkcs11.InitializeOption
	if m.args != "" {
		reserved := C.CString(m.args)
		defer C.free(unsafe.Pointer(reserved))
		opts = append(opts, pkcs11.InitializeWithReserved(unsafe.Pointer(reserved)))
	}
	if err := m.ctx.Initialize(opts...); err != nil {
		return failed("C_Initialize", err)
	}
	m.life.Add(1)
	return nil
}

// enter passes the gate in part: leave must follow.
func (m *module) enter() { _ = m.gate.Acquire(context.Background(), 1) } // never fails without a deadline

func (m *module) leave() { m.gate.Release(1) }

// renew finalises the module and initialises it again, when no call is under
// way. It does nothing if somebody else has since the life that is given.
func (m *module) renew(ctx context.Context, life int64) error {
	if err := m.gate.Acquire(ctx, wholeGate); err != nil {
		return fmt.Errorf("pkcs11: module %q: a call does not come back: %w\nhint: with `isolation: process` such a module is ended and started again", m.path, signers.ErrUnavailable)
	}
	defer m.gate.Release(wholeGate)
	if m.life.Load() != life {
		return nil
	}
	// Whatever it answers: one that is not initialised any more says so.
	_ = m.ctx.Finalize()
	return m.initialise()
}

// release gives a module back; the last user finalises it.
func (m *module) release() error {
	modules.Lock()
	defer modules.Unlock()
	if m.users--; m.users > 0 {
		return nil
	}
	delete(modules.loaded, m.lib)
	err := m.ctx.Finalize()
	m.ctx.Destroy()
	if err != nil && !is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		return failed("C_Finalize", err)
	}
	return nil
}

// generation is the lock around making and destroying keys of one token:
// several modules fail or hang when two do so at once.
func (m *module) generation(serial string) *sync.Mutex {
	modules.Lock()
	defer modules.Unlock()
	if m.tokens[serial] == nil {
		m.tokens[serial] = &sync.Mutex{}
	}
	return m.tokens[serial]
}

// loginOnce tries a PIN once. It goes to the module from locked memory and is
// wiped, here and in pin.
func (m *module) loginOnce(session pkcs11.SessionHandle, pin []byte) error {
	defer clear(pin)
	if len(pin) == 0 {
		return fmt.Errorf("pkcs11: the PIN is empty: %w", signers.ErrDenied)
	}
	page, err := unix.Mmap(-1, 0, unix.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("pkcs11: memory for the PIN: %w", err)
	}
	defer unix.Munmap(page) //nolint:errcheck // it was just mapped
	if err := unix.Mlock(page); err != nil {
		return fmt.Errorf("pkcs11: memory for the PIN can't be locked: %w\nhint: raise the limit of locked memory (LimitMEMLOCK= of the unit, ulimit -l)", err)
	}
	defer clear(page)
	if len(pin) > len(page) {
		return fmt.Errorf("pkcs11: the PIN has %d bytes: %w", len(pin), signers.ErrDenied)
	}
	n := copy(page, pin)
	rv := C.login(m.list, C.ck_ulong(session), (*C.uchar)(unsafe.Pointer(&page[0])), C.ck_ulong(n))
	if rv == pkcs11.CKR_OK || rv == pkcs11.CKR_USER_ALREADY_LOGGED_IN {
		return nil
	}
	return failed("C_Login", pkcs11.Error(rv))
}

// batchMost is how many signatures are made in one crossing.
const batchMost = C.batch_most

// A batch is room for the jobs of one crossing, outside Go's memory.
type batch struct{ c *C.sign_batch_t }

func newBatch() *batch { return &batch{(*C.sign_batch_t)(C.calloc(1, C.sizeof_sign_batch_t))} }

func (b *batch) free() { C.free(unsafe.Pointer(b.c)) }

// began is when the call under way began, as [monotonic] has it; 0 for none.
func (b *batch) began() int64 { return int64(C.batch_began(b.c)) }

// monotonic is a clock that nobody sets, in nanoseconds: the one that C reads.
func monotonic() int64 { return int64(C.monotonic()) }

// set puts a request at place i.
func (b *batch) set(i int, r *request) {
	j := &b.c.jobs[i]
	j.mechanism, j.key = C.ck_ulong(r.key.mech.id), C.ck_ulong(r.at.handle)
	j.pss = [3]C.ck_ulong{C.ck_ulong(r.key.mech.hash), C.ck_ulong(r.key.mech.mgf), C.ck_ulong(r.key.mech.salt)}
	j.data_length, j.long_data = C.ck_ulong(len(r.input)), nil
	if len(r.input) > len(j.data) {
		j.long_data = (*C.uchar)(C.CBytes(r.input))
		return
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&j.data[0])), len(j.data)), r.input)
}

// errNotReached marks a job that an earlier one's error kept from being tried.
var errNotReached = errors.New("pkcs11: not tried")

// get takes the result from place i.
func (b *batch) get(i int) ([]byte, error) {
	j := &b.c.jobs[i]
	if j.long_data != nil {
		C.free(unsafe.Pointer(j.long_data))
		j.long_data = nil
	}
	switch {
	case j.rv == ^C.ck_ulong(0):
		return nil, errNotReached
	case j.rv != pkcs11.CKR_OK:
		return nil, failed("C_Sign", pkcs11.Error(j.rv))
	}
	return C.GoBytes(unsafe.Pointer(&j.signature[0]), C.int(j.signature_length)), nil
}

// sign makes the first n signatures of a batch in one crossing.
func (m *module) sign(s pkcs11.SessionHandle, b *batch, n int) {
	C.sign_batch(m.list, C.ck_ulong(s), b.c, C.int(n))
}

// idsMost is how many objects' ids are read in one crossing.
const idsMost = C.page_most

// ids reads the CKA_ID of at most idsMost objects; nil is of one that can't be
// read.
func (m *module) ids(s pkcs11.SessionHandle, objects []pkcs11.ObjectHandle) [][]byte {
	page := new(C.id_page)
	for i, o := range objects {
		page.object[i] = C.ck_ulong(o)
	}
	C.read_ids(m.list, C.ck_ulong(s), page, C.int(len(objects)))
	all := make([][]byte, len(objects))
	for i := range objects {
		if n := page.length[i]; n >= 0 {
			all[i] = C.GoBytes(unsafe.Pointer(&page.id[i]), C.int(n))
		}
	}
	return all
}
