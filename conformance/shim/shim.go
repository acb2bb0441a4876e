// Package shim is a PKCS #11 module that misbehaves on request: it forwards
// every call to a real one, and a [Fault] says what is to go wrong, when and how
// often. It is compiled when it is made and steered through a file that both
// ends map, so it works in this process and in another.
package shim

import (
	_ "embed" // the shim
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:embed module/shim.c
var source []byte

// functions are those of PKCS #11 v2.40 in the order of CK_FUNCTION_LIST.
var functions = []string{
	"C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList", "C_GetSlotInfo", "C_GetTokenInfo",
	"C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken", "C_InitPIN", "C_SetPIN", "C_OpenSession", "C_CloseSession",
	"C_CloseAllSessions", "C_GetSessionInfo", "C_GetOperationState", "C_SetOperationState", "C_Login", "C_Logout",
	"C_CreateObject", "C_CopyObject", "C_DestroyObject", "C_GetObjectSize", "C_GetAttributeValue", "C_SetAttributeValue",
	"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate",
	"C_EncryptFinal", "C_DecryptInit", "C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal", "C_DigestInit", "C_Digest",
	"C_DigestUpdate", "C_DigestKey", "C_DigestFinal", "C_SignInit", "C_Sign", "C_SignUpdate", "C_SignFinal",
	"C_SignRecoverInit", "C_SignRecover", "C_VerifyInit", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal",
	"C_VerifyRecoverInit", "C_VerifyRecover", "C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate",
	"C_DecryptVerifyUpdate", "C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey",
	"C_SeedRandom", "C_GenerateRandom", "C_GetFunctionStatus", "C_CancelFunction", "C_WaitForSlotEvent",
}

// Functions returns the names of all functions.
func Functions() []string { return slices.Clone(functions) }

// When says on which side of the real call a fault is.
type When uint32

// The two sides.
const (
	Before When = iota
	After
)

// An Action is what goes wrong.
type Action uint32

// The actions. Corrupt, Zero and Short are for C_Sign; SwapKey and Stick for
// C_SignInit; Limit for C_OpenSession; Logout for functions of a session.
const (
	Fail         Action = iota + 1 // answers Code; Before: without the real call, After: instead of its answer
	Wait                           // takes Delay longer
	Hang                           // does not come back until the fault is cleared
	Crash                          // SIGSEGV
	Corrupt                        // flips a bit of the signature
	Zero                           // a signature of zeros
	Short                          // a signature that lacks its last byte
	SwapKey                        // signs with another private key of the token
	DropSessions                   // closes every session first
	Logout                         // logs out first
	Stick                          // begins the operation twice, and leaves it active
	Limit                          // answers CKR_SESSION_COUNT while Code sessions are open
)

// maxFaults are set at a time.
const maxFaults = 8

// A Fault is one thing that goes wrong.
type Fault struct {
	Function string // "C_Sign"; "" for every function
	When     When
	Action   Action
	Code     uint // CKR_*, of Fail; a number of sessions, of Limit
	Delay    time.Duration
	Skip     int  // calls that are left alone first
	Times    int  // calls that meet it; 0: until it is cleared
	Slot     uint // only calls about the token in this slot, by a session or by its number; 0: all
}

// fault and control are the file's layout: fault_t and control_t in module/shim.c.
type fault struct {
	active                             atomic.Uint32
	function, when, action, code, slot uint32
	delay                              uint64
	skip, times                        int64
	seen                               atomic.Int64
}

type control struct {
	faults [maxFaults]fault
	calls  [68]atomic.Uint64

	overlaps atomic.Uint64
}

// A Shim is one such module.
type Shim struct {
	Module  string // path of the library
	control *control
}

// ErrCompiler says that there is no C compiler.
var ErrCompiler = errors.New("shim: no C compiler\nhint: apt-get install gcc libc6-dev")

// Make compiles a shim of the module real into dir, which stays as long as the
// shim is used. Each has a copy of the real module, so that two in one process
// are two modules.
func Make(dir, real string) (*Shim, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return nil, ErrCompiler
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := duplicate(real, at("real.so")); err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	if err := os.WriteFile(at("shim.c"), source, 0o600); err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	c, err := mapControl(at("control"))
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-Wall", "-Wno-unused-function", //nolint:gosec // our own arguments
		fmt.Sprintf("-DREAL=%q", at("real.so")), fmt.Sprintf("-DCONTROL=%q", at("control")),
		"-o", at("shim.so"), at("shim.c"), "-ldl", "-lpthread").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("shim: cc: %w: %s", err, out)
	}
	return &Shim{Module: at("shim.so"), control: c}, nil
}

func duplicate(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // the tester names it
	if err != nil {
		return err
	}
	defer in.Close()                                                       //nolint:errcheck // opened for reading
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o700) //nolint:gosec // a library
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// mapControl makes the file and maps it. It stays mapped: the module in this
// process has it as well.
func mapControl(path string) (*control, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600) //nolint:gosec // the tester names it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // the mapping stays
	size := int(unsafe.Sizeof(control{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*control)(unsafe.Pointer(&m[0])), nil //nolint:gosec // the mapping is as large as control
}

// Set replaces all faults, at once for calls that begin later. It panics on a
// fault that can't be: a test that has one is wrong.
func (s *Shim) Set(faults ...Fault) {
	if len(faults) > maxFaults {
		panic("shim: too many faults")
	}
	s.Clear()
	for i, f := range faults {
		to := &s.control.faults[i]
		to.function = number(f.Function)
		to.when, to.action, to.code = uint32(f.When), uint32(f.Action), uint32(f.Code) //nolint:gosec // CKR_* have 32 bits
		to.slot = uint32(f.Slot)                                                       //nolint:gosec // as much of it as the shim compares
		to.delay, to.skip, to.times = uint64(f.Delay), int64(f.Skip), int64(f.Times)   //nolint:gosec // no delay is negative
		to.seen.Store(0)
		to.active.Store(1) // last: the other end reads it first
	}
}

// Clear ends all faults, and lets calls that hang go on.
func (s *Shim) Clear() {
	for i := range s.control.faults {
		s.control.faults[i].active.Store(0)
	}
}

// Calls says how often a function was called since the shim was made.
func (s *Shim) Calls(function string) int {
	return int(s.control.calls[number(function)].Load()) //nolint:gosec // no test calls so often
}

// A Drill is a fault that a back-end should be over soon after its end.
type Drill struct {
	Name string
	Fault
}

// Begin begins it, and returns what ends it.
func (s *Shim) Begin(d Drill) (end func()) {
	s.Set(d.Fault)
	return s.Clear
}

// Drills are what modules have been seen to do, one of each kind: a sample for
// suites that run on any module.
func Drills() []Drill {
	return []Drill{
		{"a call hangs", Fault{Function: "C_Sign", Action: Hang}},
		{"a signature is cut", Fault{Function: "C_Sign", When: After, Action: Short, Times: 1}},
		{"a signature is spoilt", Fault{Function: "C_Sign", Action: Corrupt, Times: 1}},
		{"an operation sticks", Fault{Function: "C_SignInit", Action: Stick, Times: 1}},
		{"another key signs", Fault{Function: "C_SignInit", Action: SwapKey, Times: 1}},
		{"sessions are dropped", Fault{Function: "C_SignInit", Action: DropSessions, Times: 1}},
		{"the device fails", Fault{Function: "C_Sign", Action: Fail, Code: 0x30}}, // CKR_DEVICE_ERROR
		{"the login is lost", Fault{Function: "C_SignInit", Action: Logout, Times: 1}},
		{"the module forgot that it is one", Fault{Function: "C_OpenSession", Action: Fail, Code: 0x190}},
		{"the token is away", Fault{Function: "C_SignInit", Action: Fail, Code: 0xe0}}, // CKR_TOKEN_NOT_PRESENT
	}
}

// Overlaps says how often C_Finalize was called while another call was under
// way, of which modules crash.
func (s *Shim) Overlaps() int {
	return int(s.control.overlaps.Load()) //nolint:gosec // no test calls so often
}

// number is a function's place in the list.
func number(function string) uint32 {
	if function == "" {
		return ^uint32(0)
	}
	i := slices.Index(functions, function)
	if i < 0 {
		panic("shim: no function " + function)
	}
	return uint32(i) //nolint:gosec // one of 68
}
