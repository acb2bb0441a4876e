package policy

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/signetd/signet/daemon/peer"
)

// A CallerRule selects callers: all that it names must hold. The zero rule
// selects nobody. Exe narrows the others and is never enough by itself, since
// a process may connect first and execute something else afterwards.
type CallerRule struct {
	UID, GID *uint32 // GID: the caller's own or a supplementary group
	Unit     string  // "build.service", or "user@1000.service/build.service" of a user's manager
	Cgroup   string  // this control group or one below it
	Exe      string
}

var errCallerRule = errors.New("caller rule")

// Check says what is wrong with the rule, nil if nothing is.
func (r CallerRule) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", errCallerRule, fmt.Sprintf(format, args...))
	}
	switch {
	case !r.identifies():
		return bad("names no uid, gid, unit or cgroup\nhint: an exe only narrows one of these")
	case r.UID != nil && *r.UID == peer.NoID, r.GID != nil && *r.GID == peer.NoID:
		return bad("%d is nobody's id", peer.NoID)
	case r.Unit != "" && !strings.HasSuffix(r.Unit, ".service") && !strings.HasSuffix(r.Unit, ".scope"):
		return bad("unit %s is neither a service nor a scope\nhint: write the full name, such as \"build.service\"", quote(r.Unit))
	case r.Cgroup != "" && (!cleanPath(r.Cgroup) || r.Cgroup == "/"):
		return bad("cgroup %s is not a path below the root\nhint: copy it from /proc/PID/cgroup, such as \"/system.slice/build.service\"", quote(r.Cgroup))
	case r.Exe != "" && !cleanPath(r.Exe):
		return bad("exe %s is not an absolute path", quote(r.Exe))
	}
	return nil
}

// identifies reports whether the rule rests on anything but an executable.
func (r CallerRule) identifies() bool {
	return r.UID != nil || r.GID != nil || r.Unit != "" || r.Cgroup != ""
}

func cleanPath(p string) bool { return path.IsAbs(p) && path.Clean(p) == p }

// Matches reports whether the rule selects c. Nobody and hypothetical callers
// are never selected.
func (r CallerRule) Matches(c peer.Caller) bool {
	return !c.Hypothetical() && r.mismatch(c) == ""
}

// mismatch names what keeps the rule from selecting c, "" for nothing. Asking
// for unit, cgroup and exe costs a system call, so they come last.
func (r CallerRule) mismatch(c peer.Caller) string {
	if !c.Known() {
		return "nobody is there"
	}
	if !r.identifies() {
		return "the rule names no identity"
	}
	if r.UID != nil && *r.UID != c.UID() {
		return "another uid"
	}
	if r.GID != nil && !c.InGroup(*r.GID) {
		return "not in the group"
	}
	return r.processMismatch(c)
}

// processMismatch compares what rests on the process that connected.
func (r CallerRule) processMismatch(c peer.Caller) string {
	if r.Unit != "" {
		if why := differs("unit", c.Unit, func(have string) bool { return have == r.Unit }); why != "" {
			return why
		}
	}
	if r.Cgroup != "" {
		if why := differs("cgroup", c.Cgroup, func(have string) bool { return within(have, r.Cgroup) }); why != "" {
			return why
		}
	}
	if r.Exe != "" {
		return differs("exe", c.Exe, func(have string) bool { return have == r.Exe })
	}
	return ""
}

// differs compares something that may be unknown, which is never equal.
func differs(what string, read func() (string, bool), same func(string) bool) string {
	have, ok := read()
	switch {
	case !ok:
		return what + " unknown"
	case !same(have):
		return "another " + what
	}
	return ""
}

// within takes whole elements: "/ci.slice2" is not below "/ci.slice".
func within(cgroup, top string) bool {
	return cgroup == top || strings.HasPrefix(cgroup, top+"/")
}

// String names what the rule asks for.
func (r CallerRule) String() string {
	var parts []string
	if r.UID != nil {
		parts = append(parts, fmt.Sprintf("uid=%d", *r.UID))
	}
	if r.GID != nil {
		parts = append(parts, fmt.Sprintf("gid=%d", *r.GID))
	}
	for _, f := range []struct{ name, value string }{{"unit", r.Unit}, {"cgroup", r.Cgroup}, {"exe", r.Exe}} {
		if f.value != "" {
			parts = append(parts, f.name+"="+quote(f.value))
		}
	}
	return strings.Join(parts, " ")
}
