package paseto

// What the official vectors speak of and the package keeps to itself.
var (
	PAE = pae
	Pid = pid
)
