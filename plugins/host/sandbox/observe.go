package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Observe holds what should contain a process against what the kernel says of
// it, as far as the kernel says it to others: what is not so is not in force.
// Without a process it returns the measures as they are.
func Observe(pid int, measures []Measure) []Measure {
	measures = slices.Clone(measures)
	if pid == 0 {
		return measures
	}
	status, err := readStatus(pid)
	for i, m := range measures {
		if m.InForce {
			if why := status.denies(m); err != nil || why != "" {
				measures[i].InForce = false
				measures[i].Detail = choose(err != nil, "the process can't be looked at", why)
			}
		}
	}
	return measures
}

// A status is what /proc/PID/status says, by field.
type status map[string]string

func readStatus(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	all := status{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		all[name] = strings.TrimSpace(value)
	}
	return all, nil
}

// denies says how the kernel contradicts a measure, "" if it does not.
func (s status) denies(m Measure) string {
	none := strings.Repeat("0", 16)
	switch {
	case (m.Name == Seccomp || m.Name == "network") && s["Seccomp"] != "2":
		return "no filter in force: mode " + s["Seccomp"]
	case m.Name == "privileges" && (s["NoNewPrivs"] != "1" || s["CapPrm"] != none || s["CapEff"] != none || s["CapInh"] != none || s["CapAmb"] != none):
		return fmt.Sprintf("no_new_privs %s, capabilities %s", s["NoNewPrivs"], s["CapPrm"])
	case m.Name == UID && strings.Join(strings.Fields(s["Uid"]), " ") != strings.TrimSpace(strings.Repeat(m.Detail+" ", 4)):
		return "its uids are " + s["Uid"]
	}
	return ""
}
