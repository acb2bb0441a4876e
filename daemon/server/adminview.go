package server

import (
	"context"

	signetv1 "github.com/signetd/signet/daemon/api/v1"
	"github.com/signetd/signet/daemon/audit"
	"github.com/signetd/signet/daemon/peer"
)

// ListKeys lists every key with all its versions.
func (a *Admin) ListKeys(ctx context.Context, _ *signetv1.ListKeysRequest) (*signetv1.ListKeysReply, error) {
	if err := a.view(ctx, RightView, "key.list"); err != nil {
		return nil, err
	}
	reply, problems := &signetv1.ListKeysReply{}, a.problems()
	for _, e := range a.Pipeline.Ring.List() {
		k := keyOf(e)
		k.BackendState = a.Backend(e.Backend)
		for _, v := range k.GetVersions() {
			v.Problem = problems[versionOf{k.GetName(), v.GetNumber()}]
		}
		reply.Keys = append(reply.Keys, k)
	}
	return reply, nil
}

type versionOf struct {
	key    string
	number uint32
}

// problems are what keeps versions from their duty: a back-end may be ready
// and disown one of its keys.
func (a *Admin) problems() map[versionOf]string {
	all := map[versionOf]string{}
	for _, p := range a.Pipeline.Ring.Problems() {
		all[versionOf{p.Name, number(p.Version)}] = p.Reason
	}
	return all
}

// Status says how each part of the daemon is.
func (a *Admin) Status(ctx context.Context, _ *signetv1.StatusRequest) (*signetv1.StatusReply, error) {
	if err := a.view(ctx, RightView, "status"); err != nil {
		return nil, err
	}
	return &signetv1.StatusReply{
		Version: a.About.Version, Started: a.About.Started.Unix(), Parts: a.Parts(ctx), Profiles: a.About.Profiles,
	}, nil
}

// ListPlugins says which processes work for the daemon, and what contains each.
func (a *Admin) ListPlugins(ctx context.Context, _ *signetv1.ListPluginsRequest) (*signetv1.ListPluginsReply, error) {
	if err := a.view(ctx, RightView, "plugin.list"); err != nil {
		return nil, err
	}
	return &signetv1.ListPluginsReply{Plugins: a.Plugins()}, nil
}

// Explain says why a request would be allowed or refused, for a caller that
// need not exist, without signing anything.
func (a *Admin) Explain(ctx context.Context, r *signetv1.ExplainRequest) (*signetv1.ExplainReply, error) {
	if err := a.view(ctx, RightPolicy, "explain"); err != nil {
		return nil, err
	}
	as := peer.Hypothetical(r.GetUid(), r.GetGid(), r.GetUnit(), r.GetExe())
	why := a.Pipeline.Gate.Explain(ctx, requestOf(as, r.GetRequest()))
	reply := &signetv1.ExplainReply{Allowed: why.Allowed, Rule: why.Rule, Reason: why.Reason}
	for _, s := range why.Steps {
		reply.Steps = append(reply.Steps, &signetv1.ExplainStep{Rule: s.Rule, Held: s.Held, Detail: s.Detail})
	}
	return reply, nil
}

// view admits a call that changes nothing. It is recorded only when refused:
// a status page that is polled must not fill the ledger.
func (a *Admin) view(ctx context.Context, right Right, op string) error {
	caller, err := a.admit(ctx, right)
	if err == nil {
		return nil
	}
	return a.Pipeline.onTheWire(a.Pipeline.deny(ctx, audit.Event{Op: op, Caller: caller.String()}, err))
}
