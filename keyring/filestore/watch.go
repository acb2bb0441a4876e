package filestore

import (
	"context"
	"maps"
	"slices"
)

// A watcher is told each name once, however often it was saved since it last
// looked.
type watcher struct {
	names map[string]bool
	wake  chan struct{}
}

// Watch names records as they are saved. Only this process can save them, since
// it holds the lock.
func (s *Store) Watch(ctx context.Context) (<-chan string, error) {
	w := &watcher{names: map[string]bool{}, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.root == nil {
		return nil, ErrClosed
	}
	s.watchers = append(s.watchers, w)
	out := make(chan string)
	go func() {
		defer close(out)
		defer s.forget(w)
		for {
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
			for _, name := range s.news(w) {
				select {
				case out <- name:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out, nil
}

// tell notes a save for every watcher. Called with mu held.
func (s *Store) tell(name string) {
	for _, w := range s.watchers {
		w.names[name] = true
		select {
		case w.wake <- struct{}{}:
		default: // it is awake already
		}
	}
}

func (s *Store) news(w *watcher) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.Collect(maps.Keys(w.names))
	clear(w.names)
	return names
}

func (s *Store) forget(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = slices.DeleteFunc(s.watchers, func(x *watcher) bool { return x == w })
}
