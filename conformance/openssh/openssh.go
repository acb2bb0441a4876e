// Package openssh runs the real sshd and ssh on loopback, for tests: they are
// the verifiers of SSH certificates that nobody here wrote.
package openssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
)

// ErrMissing says that OpenSSH is not installed.
var ErrMissing = errors.New("OpenSSH's sshd, ssh or ssh-keygen is not installed\nhint: apt-get install openssh-server openssh-client")

// find returns the absolute path of a program: sshd runs by no other name.
func find(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"} {
		if path := filepath.Join(dir, name); executable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, ErrMissing)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Installed returns ErrMissing unless all three programs are there.
func Installed() error {
	for _, name := range []string{"sshd", "ssh", "ssh-keygen"} {
		if _, err := find(name); err != nil {
			return err
		}
	}
	return nil
}

// A Config says whom a server trusts and who it is.
type Config struct {
	Dir        string   // for its files; the test's own
	CAs        []string // lines of TrustedUserCAKeys
	Principals []string // that may log in, as AuthorizedPrincipalsFile lists them
	HostKey    []byte   // private, as ssh-keygen writes it
	HostCert   string   // its certificate, if any
}

// A Server is one sshd for each connection, as inetd would run it: it listens
// from the first moment, on a port that nobody else can take.
type Server struct {
	dir      string
	sshd     string
	listener net.Listener
	log      *os.File
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu    sync.Mutex
	idle  *sync.Cond
	conns int // that sshd serves now
}

// Start starts a server on 127.0.0.1. Stop it when done.
func Start(c Config) (*Server, error) {
	if err := Installed(); err != nil {
		return nil, err
	}
	sshd, err := find("sshd")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: c.Dir, sshd: sshd}
	s.idle = sync.NewCond(&s.mu)
	if err := s.write(c); err != nil {
		return nil, fmt.Errorf("openssh: %w", err)
	}
	if s.log, err = os.Create(s.file("sshd.log")); err != nil {
		return nil, fmt.Errorf("openssh: %w", err)
	}
	if s.listener, err = net.Listen("tcp4", "127.0.0.1:0"); err != nil {
		return nil, errors.Join(fmt.Errorf("openssh: %w", err), s.log.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.running.Go(func() { s.serve(ctx) })
	return s, nil
}

func (s *Server) file(name string) string { return filepath.Join(s.dir, name) }

// write writes the server's files, and has sshd itself look at them.
func (s *Server) write(c Config) error {
	if os.Geteuid() == 0 {
		// Where sshd is no service, nobody has made its empty directory.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { //nolint:gosec // sshd wants it so
			return err
		}
	}
	conf := fmt.Sprintf(`HostKey %s
TrustedUserCAKeys %s
AuthorizedPrincipalsFile %s
AuthorizedKeysFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PidFile none
LogLevel VERBOSE
PermitRootLogin prohibit-password
MaxAuthTries 10000
`, s.file("host"), s.file("cas"), s.file("principals"))
	if c.HostCert != "" {
		conf += "HostCertificate " + s.file("host-cert.pub") + "\n"
	}
	for name, text := range map[string]string{
		"host": string(c.HostKey), "host-cert.pub": c.HostCert + "\n", "cas": strings.Join(c.CAs, "\n") + "\n",
		"principals": strings.Join(c.Principals, "\n") + "\n", "sshd_config": conf,
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	out, err := exec.Command(s.sshd, "-t", "-f", s.file("sshd_config")).CombinedOutput() //nolint:gosec // sshd, by its path
	if err != nil {
		return fmt.Errorf("sshd -t: %w: %s", err, out)
	}
	return nil
}

// serve runs sshd for each connection until the listener is closed.
func (s *Server) serve(ctx context.Context) {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		file, err := conn.(*net.TCPConn).File()
		_ = conn.Close() // the file is a descriptor of its own
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, s.sshd, "-i", "-e", "-f", s.file("sshd_config")) //nolint:gosec // sshd, by its path
		cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, s.log
		s.count(1)
		s.running.Go(func() {
			_ = cmd.Run() // what it has to say is in its log
			_ = file.Close()
			s.count(-1)
		})
	}
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns += n
	s.idle.Broadcast()
}

// Log is what sshd has said so far. It waits until no connection is open: sshd
// may answer before it has written down why.
func (s *Server) Log() string {
	s.mu.Lock()
	for s.conns > 0 {
		s.idle.Wait()
	}
	s.mu.Unlock()
	text, err := os.ReadFile(s.file("sshd.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Stop ends the server and every connection.
func (s *Server) Stop() error {
	err := s.listener.Close()
	s.cancel()
	s.running.Wait()
	return errors.Join(err, s.log.Close())
}

// Account is the only one that can log in where sshd is not root: one's own.
func Account() (string, error) {
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("openssh: %w", err)
	}
	return u.Username, nil
}

// A Login is one run of ssh.
type Login struct {
	Dir        string // for its files
	Key        []byte // private, as ssh-keygen writes it
	Cert       string // its certificate
	KnownHosts string // lines
	Host       string // what the server is called: a certificate's principal
	Command    string
}

// Do logs in and returns what the command wrote. The error has what ssh said.
func (l Login) Do(ctx context.Context, s *Server) (string, error) {
	ssh, err := find("ssh")
	if err != nil {
		return "", err
	}
	account, err := Account()
	if err != nil {
		return "", err
	}
	at := func(name string) string { return filepath.Join(l.Dir, name) }
	for name, text := range map[string]string{"id": string(l.Key), "id-cert.pub": l.Cert + "\n", "known_hosts": l.KnownHosts + "\n"} {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("openssh: %w", err)
		}
	}
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return "", fmt.Errorf("openssh: %w", err)
	}
	args := []string{"-F", "none", "-n", "-T", "-p", port, "-i", at("id")}
	for _, o := range []string{
		"CertificateFile=" + at("id-cert.pub"), "UserKnownHostsFile=" + at("known_hosts"), "GlobalKnownHostsFile=none",
		"HostKeyAlias=" + l.Host, "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "IdentityAgent=none",
		"BatchMode=yes", "PreferredAuthentications=publickey", "ConnectTimeout=60", "LogLevel=VERBOSE",
	} {
		args = append(args, "-o", o)
	}
	cmd := exec.CommandContext(ctx, ssh, append(args, account+"@127.0.0.1", l.Command)...) //nolint:gosec // ssh, by its path
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("openssh: ssh: %w: %s", err, stderr.String())
	}
	return string(out), nil
}

// Show is what `ssh-keygen -L` prints about certificates, one on each line. The
// text is worth having even where some of them are none.
func Show(ctx context.Context, dir, certs string) (string, error) {
	keygen, err := find("ssh-keygen")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "show.pub")
	if err := os.WriteFile(file, []byte(certs), 0o600); err != nil {
		return "", fmt.Errorf("openssh: %w", err)
	}
	cmd := exec.CommandContext(ctx, keygen, "-L", "-f", file) //nolint:gosec // ssh-keygen, by its path
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("openssh: ssh-keygen -L: %w", err)
	}
	return string(out), nil
}
