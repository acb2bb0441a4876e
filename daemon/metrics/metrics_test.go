package metrics

import (
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// scraped is what a scrape of m gives, with one of everything counted.
func scraped(t *testing.T) string {
	t.Helper()
	m := New("v1", "ci")
	m.Request("issue", "ci", "OK", time.Millisecond)
	m.Request("issue", "made-up-by-a-caller", "NotFound", time.Millisecond)
	m.Denied("scope")
	m.Watch(func() []Part { return []Part{{"ledger", "x", true}, {"issuer", "jwt", false}} },
		func() []Version { return []Version{{"ci", "1", "signing"}} })
	m.WatchBackends(func() []Backend {
		return []Backend{{
			Name: "hsm", State: "ready", Sessions: 3, Busy: 1, Waiting: 2, Refused: 4,
			Recoveries: map[string]int64{"login": 5}, Checked: time.Unix(6, 0),
			Metered: true, Requests: []Request{{"Sign", "done", 7}}, Throttled: 8, Retries: 9, USD: .5, Budgeted: true, CreationsLeft: 3,
		}}
	})
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestAScrapeShowsWhatHappened(t *testing.T) {
	all := scraped(t)
	for _, want := range []string{
		`signet_requests_total{code="OK",lane="issue",profile="ci"} 1`,
		`signet_requests_total{code="NotFound",lane="issue",profile="unknown"} 1`,
		`signet_denied_total{rule="scope"} 1`,
		`signet_part_up{kind="ledger",name="x"} 1`,
		`signet_part_up{kind="issuer",name="jwt"} 0`,
		`signet_key_version_state{key="ci",state="signing",version="1"} 1`,
		`signet_build_info{version="v1"} 1`,
		`signet_request_seconds_count{lane="issue"} 2`,
		`signet_backend_state{backend="hsm",state="ready"} 1`,
		`signet_backend_sessions{backend="hsm",use="busy"} 1`,
		`signet_backend_sessions{backend="hsm",use="idle"} 2`,
		`signet_backend_waiting{backend="hsm"} 2`,
		`signet_backend_refused_total{backend="hsm"} 4`,
		`signet_backend_recoveries_total{backend="hsm",rung="login"} 5`,
		`signet_backend_requests_total{backend="hsm",operation="Sign",outcome="done"} 7`,
		`signet_backend_throttled_total{backend="hsm"} 8`,
		`signet_backend_retries_total{backend="hsm"} 9`,
		`signet_backend_cost_usd_total{backend="hsm"} 0.5`,
		`signet_backend_creations_left{backend="hsm"} 3`,
		`signet_backend_health_check_ok{backend="hsm"} 1`,
		`signet_backend_health_check_timestamp_seconds{backend="hsm"} 6`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("the scrape lacks %s", want)
		}
	}
	if strings.Contains(all, "made-up") {
		t.Error("a caller made a series")
	}
}

func TestEveryMetricIsInTheREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(scraped(t)) {
		name, ok := strings.CutPrefix(line, "# HELP ")
		name, _, _ = strings.Cut(name, " ")
		if !ok || !strings.HasPrefix(name, "signet_") {
			continue
		}
		found++
		if !strings.Contains(string(readme), "`"+name+"`") {
			t.Errorf("README.md does not say what %s is", name)
		}
	}
	if found < 6 {
		t.Errorf("%d metrics, want them all", found)
	}
}
