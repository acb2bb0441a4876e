package filestore

import "context"

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
	s.watchers = append(s.watchers, w)
	s.mu.Unlock()
	out := make(chan string)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				s.forget(w)
				return
			case <-w.wake:
			}
			for _, name := range s.news(w) {
				select {
				case out <- name:
				case <-ctx.Done():
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
	var names []string
	for name := range w.names {
		names = append(names, name)
	}
	clear(w.names)
	return names
}

func (s *Store) forget(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.watchers {
		if x == w {
			s.watchers = append(s.watchers[:i], s.watchers[i+1:]...)
			return
		}
	}
}
