package sandbox

// A Kernel is what this machine has to contain a process with.
type Kernel struct {
	Landlock int   // its version, 0 for none
	Seccomp  error // why there are no filters; nil if there are
}

// Probe asks the kernel.
func Probe() Kernel { return Kernel{Landlock: landlockABI(), Seccomp: seccompSupported()} }
