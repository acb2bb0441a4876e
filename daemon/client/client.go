// Package client talks to a signet daemon over its two sockets: [Dial] for
// issue.sock, which lends signatures, and [DialAdmin] for admin.sock.
//
// Issue and Sign travel on one pipelined stream each, opened at first use and
// shared by all goroutines: a quarter of the work of a call of its own.
package client

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/signers/stream"
)

// maxMessage bounds what either side sends in one message, in bytes.
const maxMessage = 4 << 20

// A Client asks a daemon for tokens and signatures. Its methods may be called
// at the same time. Errors are gRPC statuses (google.golang.org/grpc/status):
// Unavailable may be retried with back-off, the rest not.
type Client struct {
	conn  *grpc.ClientConn
	api   signetv1.SignerClient
	issue *stream.Pipe[*signetv1.IssueItem, *signetv1.IssueOutcome]
	sign  *stream.Pipe[*signetv1.SignItem, *signetv1.SignOutcome]
}

// Dial returns a client of the daemon behind socket, a path. It connects at
// the first call, and again whenever the daemon was restarted.
func Dial(socket string) (*Client, error) {
	conn, err := dial(socket)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, api: signetv1.NewSignerClient(conn)}
	c.issue = stream.NewPipe(c.openIssue)
	c.sign = stream.NewPipe(c.openSign)
	return c, nil
}

// dial needs no transport security: the socket is local, and the daemon knows
// its callers from the kernel.
func dial(socket string) (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient("unix:"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Fixed windows: no pings to measure a connection that is local.
		grpc.WithInitialWindowSize(maxMessage), grpc.WithInitialConnWindowSize(maxMessage),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("client: socket %q: %w", socket, err)
	}
	return conn, nil
}

// Close ends the connection; calls under way fail.
func (c *Client) Close() error {
	c.issue.Close()
	c.sign.Close()
	return c.conn.Close()
}

// A Request is what Issue asks for.
type Request struct {
	Profile  string
	Subject  string
	Audience []string
	Scope    []string
	TTL      time.Duration     // whole seconds; never optional
	Claims   json.RawMessage   // one JSON object, or nil
	Holder   map[string]string // nil, or one of "jkt" (RFC 9449), "x5t#S256" (RFC 8705) with its thumbprint, "sshkey" with a key

	Principals []string          // SSH: accounts or hosts
	Options    map[string]string // SSH: critical options
	Extensions map[string]string // SSH
	Assertion  []byte            // PASETO: the implicit assertion
}

// A Token is what Issue gives.
type Token struct {
	Value     string // the token, as its bearer sends it
	ID        string // jti
	Kid       string
	Expires   time.Time
	Shortened bool   // the lifetime is shorter than asked, because a clamp is active
	Serial    uint64 // SSH
}

// Issue asks for one token.
func (c *Client) Issue(ctx context.Context, r Request) (Token, error) {
	wire, err := r.wire()
	if err != nil {
		return Token{}, err
	}
	out, err := c.issue.Call(ctx, func(id uint64) *signetv1.IssueItem {
		return &signetv1.IssueItem{Id: id, Request: wire}
	})
	if err != nil {
		return Token{}, err
	}
	if err := refused(out.GetRefusal()); err != nil {
		return Token{}, err
	}
	t := out.GetReply()
	return Token{
		Value: string(t.GetToken()), ID: t.GetTokenId(), Kid: t.GetKid(),
		Expires: time.Unix(t.GetExpires(), 0).UTC(), Shortened: t.GetShortened(), Serial: t.GetSerial(),
	}, nil
}

// wire is the request as the daemon takes it. A lifetime that is not whole
// seconds is refused here, since the wire would cut it.
func (r Request) wire() (*signetv1.IssueRequest, error) {
	if r.TTL%time.Second != 0 {
		return nil, status.Errorf(codes.InvalidArgument, "ttl: %s is not whole seconds\nhint: round it", r.TTL)
	}
	if len(r.Holder) > 1 {
		return nil, status.Error(codes.InvalidArgument, "holder: more than one way to bind a token\nhint: give one of jkt, x5t#S256 and sshkey")
	}
	w := &signetv1.IssueRequest{
		Profile: r.Profile, Subject: r.Subject, Audience: r.Audience, Scope: r.Scope,
		TtlSeconds: int64(r.TTL / time.Second), Claims: r.Claims,
		Principals: r.Principals, Options: r.Options, Extensions: r.Extensions, Assertion: r.Assertion,
	}
	for kind, value := range r.Holder {
		w.HolderKind, w.HolderValue = kind, value
	}
	return w, nil
}

// A Signature is what Sign gives.
type Signature struct {
	Bytes     []byte // as the profile's format writes it: for a JWS, R‖S
	Kid       string
	Algorithm string // a signers.Algorithm
}

// Sign has the daemon sign a token body that the caller wrote: for a JWS, the
// ASCII bytes header.claims. The header's kid must be one that signs now; see
// [Client.PublicKeys].
func (c *Client) Sign(ctx context.Context, profile string, toBeSigned []byte) (Signature, error) {
	out, err := c.sign.Call(ctx, func(id uint64) *signetv1.SignItem {
		return &signetv1.SignItem{Id: id, Request: &signetv1.SignRequest{Profile: profile, ToBeSigned: toBeSigned}}
	})
	if err != nil {
		return Signature{}, err
	}
	if err := refused(out.GetRefusal()); err != nil {
		return Signature{}, err
	}
	s := out.GetReply()
	return Signature{Bytes: s.GetSignature(), Kid: s.GetKid(), Algorithm: s.GetAlgorithm()}, nil
}

// refused is a refusal from inside a stream as the error of one call.
func refused(r *signetv1.Refusal) error {
	if r == nil {
		return nil
	}
	return status.Error(codes.Code(r.GetCode()), r.GetMessage())
}

// A PublicKey is one key version that verifiers may meet.
type PublicKey struct {
	Key       string
	Version   int
	Kid       string
	Algorithm string
	State     string // published, signing or retired
	Public    any    // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
}

// PublicKeys returns what verifiers of a profile's tokens need, and the same as
// a JWK Set (RFC 7517). An empty profile means every published key.
func (c *Client) PublicKeys(ctx context.Context, profile string) ([]PublicKey, []byte, error) {
	reply, err := c.api.PublicKeys(ctx, &signetv1.PublicKeysRequest{Profile: profile})
	if err != nil {
		return nil, nil, err
	}
	keys := make([]PublicKey, 0, len(reply.GetKeys()))
	for _, k := range reply.GetKeys() {
		pub, err := x509.ParsePKIXPublicKey(k.GetPublic())
		if err != nil {
			return nil, nil, fmt.Errorf("client: public key %q: %w", k.GetKid(), err)
		}
		keys = append(keys, PublicKey{
			Key: k.GetKey(), Version: int(k.GetVersion()), Kid: k.GetKid(),
			Algorithm: k.GetAlgorithm(), State: k.GetState(), Public: pub,
		})
	}
	return keys, reply.GetJwks(), nil
}

// PASERK returns the keys that verify a profile's PASETOs, k4.public.… or
// k3.public.… each. An empty profile means every published key of that format.
func (c *Client) PASERK(ctx context.Context, profile string) ([]string, error) {
	reply, err := c.api.PublicKeys(ctx, &signetv1.PublicKeysRequest{Profile: profile})
	return reply.GetPaserk(), err
}

// SSHAuthorities returns the CA keys of a profile's SSH certificates, or of all
// profiles', each as a line of sshd's TrustedUserCAKeys: "TYPE BASE64
// KEY@VERSION". Certificates of a key that rotates carry the new CA a lead time
// after it is listed here.
func (c *Client) SSHAuthorities(ctx context.Context, profile string) ([]string, error) {
	reply, err := c.api.PublicKeys(ctx, &signetv1.PublicKeysRequest{Profile: profile})
	if err != nil {
		return nil, err
	}
	return reply.GetSshCa(), nil
}

// DialAdmin returns a connection to admin.sock and its service. Close the
// connection when done.
func DialAdmin(socket string) (signetv1.AdminClient, *grpc.ClientConn, error) {
	conn, err := dial(socket)
	if err != nil {
		return nil, nil, err
	}
	return signetv1.NewAdminClient(conn), conn, nil
}
