package sandbox

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The list of system calls is for every language. Each of these does what an
// issuer does: load its library, start threads, serve a unix socket.
var languages = []struct {
	program string
	args    []string
	runtime []string
}{
	{"/usr/bin/python3", []string{"-I", "-B", "-c", `
import asyncio, hashlib, json, os, socket, ssl, sys, tempfile, threading, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.bind(os.path.join(sys.argv[1], "py")); s.listen()
t = threading.Thread(target=lambda: time.sleep(0.01)); t.start(); t.join()
asyncio.run(asyncio.sleep(0.001)); hashlib.sha256(os.urandom(8)); ssl.create_default_context
for no in (lambda: socket.create_connection(("127.0.0.1", 1)), lambda: open("/etc/passwd"), os.fork):
    try: no(); sys.exit("it may: %r" % no)
    except OSError: pass
print("served")`}, []string{"/usr/lib/python3", "/usr/lib/python3.*", "/usr/local/lib/python3.*"}},
	{"/usr/bin/node", []string{"-e", `
const net = require("net"), fs = require("fs"), cp = require("child_process"), crypto = require("crypto");
const s = net.createServer(() => {}).listen(process.argv[1] + "/node", () => {
  crypto.createHash("sha256").update(crypto.randomBytes(8)).digest();
  try { fs.readFileSync("/etc/passwd"); console.log("it may read"); process.exit(1); } catch (e) {}
  if (!cp.spawnSync("/bin/true").error) { console.log("it may fork"); process.exit(1); }
  console.log("served"); process.exit(0);
});`}, []string{"/usr/share/nodejs", "/usr/lib/nodejs", "/etc/ssl/openssl.cnf"}},
}

func TestOtherLanguagesServe(t *testing.T) {
	needAll(t)
	for _, l := range languages {
		t.Run(filepath.Base(l.program), func(t *testing.T) {
			path, err := exec.LookPath(l.program)
			if err != nil {
				t.Skipf("%v; hint: apt-get install python3 nodejs", err)
			}
			if got := served(t, path, l.args, l.runtime); !strings.Contains(got, "served") {
				t.Errorf("%s: got %q, want served", l.program, got)
			}
		})
	}
}

func served(t *testing.T, path string, args, runtime []string) string {
	t.Helper()
	target, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := Confinement{Dir: t.TempDir(), Memory: 512 << 20}
	for _, pattern := range runtime {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		c.Read = append(c.Read, found...)
	}
	child, err := newStarter(t).Start(Command{
		Trampoline: self(t), LaunchArgs: []string{"signet", "launch", "--"}, Target: target, Confine: c,
		Args: append(append([]string{path}, args...), c.Dir), Stdout: w, Stderr: w,
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { child.Kill(); <-child.Ended() }()
	said, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(said)
}
