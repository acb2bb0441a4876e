package peer

import (
	"strings"
)

// parseCgroup returns the path from the text of /proc/PID/cgroup: that of
// cgroup v2, or of systemd's own v1 hierarchy where v2 is not in use (there
// every process is in v2's root). Empty means unknown.
func parseCgroup(text string) string {
	unified, legacy := "", ""
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case controllers == "":
			unified = path
		case controllers == "name=systemd":
			legacy = path
		}
	}
	if unified == "" || unified == "/" && legacy != "" {
		unified = legacy
	}
	if !soundCgroup(unified) {
		return ""
	}
	return unified
}

// soundCgroup refuses a path that does not say where the process is: one out
// of our cgroup namespace ("/../x") and one that was removed ("/x (deleted)").
func soundCgroup(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, " (deleted)") {
		return false
	}
	for name := range strings.SplitSeq(path, "/") {
		if name == ".." {
			return false
		}
	}
	return true
}

// unitOf names the unit of a cgroup path, as systemd does: slices are skipped,
// and the first other element is the unit. What is below was made by the unit
// itself and proves nothing, but for a user manager, whose units are named
// together with it.
func unitOf(path string) string {
	unit, below := firstUnit(path)
	if !isUserManager(unit) {
		return unit
	}
	if own, _ := firstUnit(below); own != "" {
		return unit + "/" + own
	}
	return unit
}

// firstUnit returns the first element that is no slice, if it names a service
// or a scope, and what is below it.
func firstUnit(path string) (unit, below string) {
	for rest := strings.TrimPrefix(path, "/"); rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		// systemd puts "_" before a name that the kernel would take for a
		// file of its own.
		name = strings.TrimPrefix(name, "_")
		switch {
		case isNamed(name, ".slice"):
		case isNamed(name, ".service"), isNamed(name, ".scope"):
			return name, rest
		default:
			return "", ""
		}
	}
	return "", ""
}

func isNamed(name, suffix string) bool {
	return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
}

func isUserManager(unit string) bool {
	uid, ok := strings.CutPrefix(unit, "user@")
	uid, also := strings.CutSuffix(uid, ".service")
	return ok && also && uid != "" && strings.Trim(uid, "0123456789") == ""
}
