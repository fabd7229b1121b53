package spool

import (
	"errors"
	"slices"
)

// asideFile is a flush that was set aside.
type asideFile struct {
	name string
	size int64
}

// setAside moves a flush out of the way, for somebody to look at.
func (s *Spool) setAside(fl *flush, why Reason) error {
	if s.disk == nil {
		return nil
	}
	as := aside + "/" + name(fl.sequence, "."+why.String())
	s.mu.Lock()
	there := slices.ContainsFunc(s.asides, func(f asideFile) bool { return f.name == as })
	s.mu.Unlock()
	if there { // with the rows, which what is left of it has not
		return nil
	}
	size := fl.size
	var err error
	if fl.stored {
		err = s.disk.Rename(flushName(fl.sequence), as)
	} else {
		size = onDisk(size)
		err = s.write(as, fl.data, nil)
	}
	if err == nil {
		err = errors.Join(s.disk.Sync(aside), s.disk.Sync("."))
	}
	if err != nil {
		s.trouble(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asides = append(s.asides, asideFile{as, size})
	s.bytes += size
	s.stats.SetAside++
	return nil
}

// forgetAside removes the oldest file that was set aside, and says whether there was one:
// what cannot be sent makes room for what can.
func (s *Spool) forgetAside() bool {
	s.mu.Lock()
	if len(s.asides) == 0 {
		s.mu.Unlock()
		return false
	}
	f := s.asides[0]
	s.asides = s.asides[1:]
	s.bytes -= f.size
	s.mu.Unlock()
	if err := s.disk.Remove(f.name); err != nil {
		s.trouble(err)
	} else {
		s.say("a file that was set aside is removed to make room", "file", f.name)
	}
	return true
}

// recoverAside looks what was set aside.
func (s *Spool) recoverAside() error {
	entries, err := s.disk.ReadDir(aside)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for why := range numReasons {
			if _, ok := sequenceOf(e.Name(), "."+why.String()); !ok {
				continue
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			f := asideFile{aside + "/" + e.Name(), onDisk(info.Size())}
			s.asides = append(s.asides, f)
			s.bytes += f.size
		}
	}
	return nil
}
