package config

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/signetd/signet/signers"
)

// Formats are the token formats that are compiled in: no plug-in may take the
// name of one.
var Formats = []string{formatJWT, formatPASETO, formatSSH}

// Algorithms are those of each compiled-in format that does not sign with all
// that signet knows.
var Algorithms = map[string][]signers.Algorithm{
	formatPASETO: {signers.ECDSAP384, signers.Ed25519},
	formatSSH: {
		signers.ECDSAP256, signers.ECDSAP384, signers.ECDSAP521, signers.Ed25519,
		"rsa2048-pkcs1-sha256", "rsa2048-pkcs1-sha512", "rsa3072-pkcs1-sha256", "rsa3072-pkcs1-sha512",
		"rsa4096-pkcs1-sha256", "rsa4096-pkcs1-sha512",
	},
}

// Containments are what keeps a plug-in's process to itself, by name: what a
// machine may lack only if the configuration accepts it.
var Containments = []string{"landlock", "seccomp", "uid", "cgroup"}

// Issuers are the limits of issuer processes, the stock ones included.
type Issuers struct {
	Deadline      Duration `yaml:"deadline,omitempty" jsonschema_description:"How long a draft may take; 1s if absent."`
	UIDs          string   `yaml:"uids,omitempty" jsonschema_description:"Uids for plug-in processes alone, one for each, such as 60000-60099. The daemon starts with CAP_SETUID, CAP_SETGID and CAP_KILL, gives them to a small launcher and keeps none."`
	Cgroup        string   `yaml:"cgroup,omitempty" jsonschema_description:"A delegated cgroup (v2) for plug-in processes, below /sys/fs/cgroup; the unit's own, if systemd delegates it (Delegate=yes), if absent."`
	Memory        Size     `yaml:"memory,omitempty" jsonschema_description:"Memory that one plug-in process may have; 512MiB if absent."`
	AcceptMissing []string `yaml:"accept_missing,omitempty" jsonschema:"enum=landlock,enum=seccomp,enum=uid,enum=cgroup" jsonschema_description:"Containments that this machine may lack. Without it the daemon refuses to start; signet doctor says what there is."`
}

// A Plugin is an issuer that is not signet's own.
type Plugin struct {
	Name          string   `yaml:"name" jsonschema:"required" jsonschema_description:"Its name in this file and in messages."`
	Format        string   `yaml:"format,omitempty" jsonschema_description:"The token format that it makes; its name if absent."`
	Path          string   `yaml:"path" jsonschema:"required" jsonschema_description:"Absolute path of the program, or of the interpreter."`
	SHA256        string   `yaml:"sha256" jsonschema:"required" jsonschema_description:"SHA-256 of what runs, in hex, as signet plugin digest prints it: of the program, or with runtime of the interpreter and everything below those paths."`
	Args          []string `yaml:"args,omitempty" jsonschema_description:"Arguments, after the program's name."`
	Runtime       []string `yaml:"runtime,omitempty" jsonschema_description:"Absolute paths, files or directories, that an interpreter reads: its library and the plug-in's own files. Nobody but root or the daemon's user may write there."`
	PlainGRPC     bool     `yaml:"plain_grpc,omitempty" jsonschema_description:"Speak gRPC without TLS: for languages whose gRPC can't take go-plugin's P-521 certificate. The socket is in a private directory, and who listens is checked."`
	UID           *uint32  `yaml:"uid,omitempty" jsonschema:"minimum=1,maximum=4294967294" jsonschema_description:"Its uid, one of issuers.uids; the first free one if absent."`
	Memory        Size     `yaml:"memory,omitempty" jsonschema_description:"Memory that it may have; issuers.memory if absent."`
	AcceptMissing []string `yaml:"accept_missing,omitempty" jsonschema:"enum=landlock,enum=seccomp,enum=uid,enum=cgroup" jsonschema_description:"As in issuers, for this plug-in alone."`
	Inspector     *Program `yaml:"inspector,omitempty" jsonschema_description:"Another program that reads back what the plug-in drafts; a second process of the plug-in's own, if absent."`
}

// A Program is one that is pinned, as a plug-in's own is.
type Program struct {
	Path      string   `yaml:"path" jsonschema:"required" jsonschema_description:"Absolute path of the program, or of the interpreter."`
	SHA256    string   `yaml:"sha256" jsonschema:"required" jsonschema_description:"SHA-256 of what runs, in hex, as signet plugin digest prints it."`
	Args      []string `yaml:"args,omitempty" jsonschema_description:"Arguments, after the program's name."`
	Runtime   []string `yaml:"runtime,omitempty" jsonschema_description:"Absolute paths that an interpreter reads."`
	PlainGRPC bool     `yaml:"plain_grpc,omitempty" jsonschema_description:"Speak gRPC without TLS."`
}

// Program is what the plug-in itself runs.
func (p Plugin) Program() Program {
	return Program{p.Path, p.SHA256, p.Args, p.Runtime, p.PlainGRPC}
}

// Makes is the format that the plug-in makes.
func (p Plugin) Makes() string {
	if p.Format != "" {
		return p.Format
	}
	return p.Name
}

// PluginOf is the plug-in that makes a format.
func (c *Config) PluginOf(format string) (Plugin, bool) {
	for _, p := range c.Plugins {
		if p.Makes() == format {
			return p, true
		}
	}
	return Plugin{}, false
}

// Range is the first and the last of the uids for plug-ins; 0, 0 for none.
func (i Issuers) Range() (first, last uint32, err error) {
	if i.UIDs == "" {
		return 0, 0, nil
	}
	low, high, _ := strings.Cut(i.UIDs, "-")
	a, errA := strconv.ParseUint(low, 10, 32)
	b, errB := strconv.ParseUint(high, 10, 32)
	if errA != nil || errB != nil || !plainNumber(low) || !plainNumber(high) || a == 0 || b < a || b >= 1<<32-1 {
		return 0, 0, fmt.Errorf("%s is no range of uids", quote(i.UIDs))
	}
	return uint32(a), uint32(b), nil
}

func (k checker) issuers(i Issuers) {
	k.within("issuers.deadline", i.Deadline, maxDeadline, "choose less: callers wait for it")
	k.unit("issuers.memory", i.Memory.check(), "a size such as 512MiB")
	k.accepted("issuers.accept_missing", i.AcceptMissing)
	_, _, err := i.Range()
	k.unit("issuers.uids", err, "the first and the last, of uids that nobody else has, such as 60000-60099")
	if i.Cgroup != "" && !strings.HasPrefix(filepath.Clean(i.Cgroup), "/sys/fs/cgroup/") {
		k.wrong("issuers.cgroup", quote(i.Cgroup)+" is not below /sys/fs/cgroup", "the whole path of a cgroup that is delegated to the daemon's user")
	}
}

func (k checker) accepted(field string, names []string) {
	k.distinct(field, names)
	for i, name := range names {
		k.oneOf(fmt.Sprintf("%s[%d]", field, i), name, Containments...)
	}
}

func (k checker) plugins(c *Config) {
	seen, formats := map[string]bool{}, map[string]bool{}
	for i, p := range c.Plugins {
		at := fmt.Sprintf("plugins[%d]", i)
		k.unique(at+".name", p.Name, seen)
		k.format(at, p, formats)
		k.program(at, p.Program())
		if p.Inspector != nil {
			k.program(at+".inspector", *p.Inspector)
		}
		k.unit(at+".memory", p.Memory.check(), "a size such as 512MiB")
		k.accepted(at+".accept_missing", p.AcceptMissing)
		k.ownUID(at+".uid", c, p)
	}
}

func (k checker) program(at string, p Program) {
	k.absolute(at+".path", p.Path, true)
	k.digest(at+".sha256", p.SHA256)
	k.distinct(at+".runtime", p.Runtime)
	for i, path := range p.Runtime {
		k.absolute(fmt.Sprintf("%s.runtime[%d]", at, i), path, false)
	}
}

// blind wants a key that signs unread bytes to be of a format that signet can't
// read: such a key serves one plug-in, and nobody else.
func (k checker) blind(at string, key Key) {
	if key.AllowBlindSigning && slices.Contains(Formats, key.Format) {
		k.wrong(at+".allow_blind_signing", "signet reads "+quote(key.Format)+" itself", "remove it: nothing of this format is signed unread")
	}
}

// format wants a name that no other issuer has.
func (k checker) format(at string, p Plugin, seen map[string]bool) {
	at += ".format"
	if p.Format == "" && p.Name == "" {
		return // said of the name
	}
	if slices.Contains(Formats, p.Makes()) || p.Makes() == formatOpaque {
		k.wrong(at, quote(p.Makes())+" is signet's own", "choose another name: its tokens are judged, or made, by the daemon itself")
		return
	}
	k.unique(at, p.Makes(), seen)
}

func (k checker) absolute(field, path string, needed bool) {
	switch {
	case path == "" && needed:
		k.wrong(field, "missing", "the whole path, from /")
	case path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/"):
		k.wrong(field, quote(path)+" is not an absolute path", "the whole path, from /, without . and ..")
	}
}

func (k checker) digest(field, sum string) {
	const hint = "`signet plugin digest PATH [RUNTIME…]` prints it"
	if !k.need(field, sum != "", hint) {
		return
	}
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 {
		k.wrong(field, quote(sum)+" is not a SHA-256 in hex", hint)
	}
}

// ownUID wants a uid of the range, and for this plug-in alone.
func (k checker) ownUID(field string, c *Config, p Plugin) {
	if p.UID == nil {
		return
	}
	first, last, err := c.Issuers.Range()
	if err == nil && (*p.UID < first || *p.UID > last || first == 0) {
		k.wrong(field, fmt.Sprintf("%d is not among issuers.uids", *p.UID), "issuers: {uids: FIRST-LAST}")
	}
	for _, other := range c.Plugins {
		if other.Name != p.Name && other.UID != nil && *other.UID == *p.UID {
			k.wrong(field, fmt.Sprintf("%d is also %s's", *p.UID, quote(other.Name)), "each plug-in has a uid of its own")
		}
	}
}
