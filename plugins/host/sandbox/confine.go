package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// The containments that a machine may lack, by name. What is not among them
// every Linux has, and its absence is never accepted.
const (
	Landlock = "landlock" // which files there are to open
	Seccomp  = "seccomp"  // which system calls there are to make
	UID      = "uid"      // a uid that nobody else has
	Cgroup   = "cgroup"   // a control group that bounds memory and threads
)

// A Confinement is what the kernel keeps a process to. The zero value is an
// issuer's: no file, no socket but those that reach it, no other process.
type Confinement struct {
	// Backend is the process of a vendor's library: it may start processes and
	// connect to local services, and its files are restricted only where Write
	// names some.
	Backend bool `json:",omitempty"`

	Dir     string   `json:",omitempty"` // where it may make and remove sockets, and nothing else
	Read    []string `json:",omitempty"` // files and directories that it may read
	Execute []string `json:",omitempty"` // files that it may execute, beside the target
	Write   []string `json:",omitempty"` // files and directories that it may read and write
	Network bool     `json:",omitempty"` // it may use IP: a back-end alone

	Memory uint64 `json:",omitempty"` // bytes of data; 0: no limit
	UID    uint32 `json:",omitempty"` // its own uid and gid; 0: those of who starts it
	Cgroup string `json:",omitempty"` // the directory of the control group that it joins

	// Accept names containments that this machine may lack. Without it a
	// process that can't be contained does not start.
	Accept []string `json:",omitempty"`
}

// encode writes c as the trampoline's argument.
func (c Confinement) encode() (string, error) {
	b, err := json.Marshal(c)
	return string(b), err
}

func decodeConfinement(text string) (c Confinement, err error) {
	err = json.Unmarshal([]byte(text), &c)
	return c, err
}

// accepts turns the lack of a containment into nothing where it is accepted by
// name, and otherwise into an error that says how.
func (c Confinement) accepts(name string, err error) error {
	if err == nil || slices.Contains(c.Accept, name) {
		return nil
	}
	return fmt.Errorf("%s is missing: %w\nhint: `signet doctor` says what this machine has; accept_missing: [%s] does without", name, err, name)
}

// Check says what this kernel lacks to confine a process like this, unless c
// accepts it.
func (c Confinement) Check(k Kernel) error {
	err := c.accepts(Seccomp, k.Seccomp)
	if k.Landlock == 0 {
		err = errors.Join(err, c.accepts(Landlock, errNoLandlock))
	}
	return err
}

// Measures names what is in force for a process confined like this, on a
// kernel of these features, in the order in which people ask.
func (c Confinement) Measures(k Kernel) []Measure {
	measures := []Measure{
		{"seccomp", k.Seccomp == nil, choose(c.Backend, "back-end's list", "issuer's list")},
		c.landlock(k),
		{"network", k.Seccomp == nil && !c.Network, choose(c.Network, "allowed", "none")},
		{"uid", c.UID != 0, choose(c.UID != 0, fmt.Sprint(c.UID), "shared")},
		{"cgroup", c.Cgroup != "", choose(c.Cgroup != "", c.Cgroup, "none")},
		{"rlimits", true, "core=0" + choose(c.Backend, "", fmt.Sprintf(" fsize=0 nofile=%d", maxFiles)) +
			choose(c.Memory > 0, fmt.Sprintf(" data=%dMiB", c.Memory>>20), "")},
		{"privileges", true, "no_new_privs, no capabilities"},
		{"dumpable", true, "0"},
	}
	return measures
}

func (c Confinement) landlock(k Kernel) Measure {
	what := fmt.Sprintf("ABI %d", k.Landlock)
	switch {
	case k.Landlock == 0:
		return Measure{"landlock", false, "none"}
	case c.anyFile():
		return Measure{"landlock", k.Landlock >= scopesABI, what + ", signals; files not restricted"}
	case k.Landlock < scopesABI:
		what += ", files"
	default:
		what += ", files, signals, abstract sockets"
	}
	return Measure{"landlock", true, what}
}

// anyFile is whether files are left to their modes.
func (c Confinement) anyFile() bool { return c.Backend && len(c.Write) == 0 }

func choose(is bool, yes, no string) string {
	if is {
		return yes
	}
	return no
}

// A Measure is one containment of a process.
type Measure struct {
	Name    string // "seccomp", "landlock", "network", "uid", "cgroup", "rlimits", "privileges", "dumpable"
	InForce bool
	Detail  string // "ABI 7, files"
}
