//! What the table of queues does with the light ones.

use super::LightLog;
use crate::queue::consume_queue::ConsumeQueue;
use crate::queue::entry::Entry;
use crate::queue::files::QueueFiles;
use crate::queue::table::{Maintenance, QueueTable};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use message::{LogOffset, names};
use std::io;
use std::sync::Arc;

/// Entries that an export reads at once.
const EXPORT_ENTRIES: usize = 4_096;

impl QueueTable {
    /// Whether this is a light queue, and light queues are enabled.
    pub(in crate::queue) fn is_light(&self, topic: &str, queue_id: i32) -> bool {
        self.shared.light.is_some() && queue_id == 0 && names::is_light_queue(topic)
    }

    /// Whether light queues are enabled.
    pub(crate) fn has_light_queues(&self) -> bool {
        self.shared.light.is_some()
    }

    fn make_light(&self, name: Arc<str>) -> Arc<ConsumeQueue> {
        Arc::new(ConsumeQueue::fresh_light(QueueFiles::new(Arc::clone(&self.shared), name, 0)))
    }

    pub(in crate::queue) fn create_light(&self, name: &str) -> Arc<ConsumeQueue> {
        let mut queues = self.light.by_name.write();
        if let Some(queue) = queues.get(name) {
            return Arc::clone(queue);
        }
        let name: Arc<str> = Arc::from(name);
        let queue = self.make_light(Arc::clone(&name));
        queues.insert(name, Arc::clone(&queue));
        queue
    }

    /// How many light queues there are.
    pub(crate) fn light_count(&self) -> usize {
        self.light.by_name.read().len()
    }

    /// All light queues, in no particular order.
    pub(crate) fn all_light(&self) -> Vec<Arc<ConsumeQueue>> {
        self.light.by_name.read().values().cloned().collect()
    }

    /// Reads what is in the light log; nothing if there are light queues in the files of a Java broker, which may have written more
    /// than the light log knows.
    pub(in crate::queue) fn load_light(&self) -> io::Result<()> {
        let Some(log) = &self.shared.light else { return Ok(()) };
        if log.is_export_interrupted()? {
            self.remove_foreign_light()?;
            log.unmark_export()?;
        } else if !self.light.foreign.lock().is_empty() {
            return log.reset();
        }
        let loaded = log.load(&|name| self.make_light(Arc::from(name)))?;
        *self.light.by_name.write() = loaded.queues;
        Ok(())
    }

    /// The part of the log before `from` that the light queues may not have: it is to be read for them. `None` if they have all of it.
    pub(crate) fn light_behind(&self, from: LogOffset) -> Option<LogOffset> {
        let log = self.shared.light.as_ref()?;
        let covered = LogOffset(log.covered().unwrap_or(0));
        (covered < from).then_some(covered)
    }

    /// Whether the light log says that it has messages from `to` on, where the log ends.
    pub(crate) fn is_light_ahead(&self, to: LogOffset) -> bool {
        self.shared
            .light
            .as_ref()
            .and_then(LightLog::covered)
            .is_some_and(|covered| covered > to.0)
    }

    /// Drops the entries of messages from `to` on.
    ///
    /// # Errors
    /// [`io::Error`] if the light log cannot be read or written.
    pub(crate) fn truncate_light(&self, to: LogOffset) -> io::Result<()> {
        let Some(log) = &self.shared.light else { return Ok(()) };
        log.write_again()?;
        for queue in self.all_light() {
            queue.truncate_light(log, to.0)?;
        }
        log.truncate(to.0)
    }

    /// A recovery ends, of a log that ends at `end`: light queues without a message in the log continue where a Java broker left them.
    pub(crate) fn finish_light(&self) -> io::Result<()> {
        for (name, max) in &*self.light.foreign.lock() {
            let queue = self.create_light(name);
            if queue.max().0 < *max {
                queue.restart(*max)?;
            }
        }
        Ok(())
    }

    /// Notes that all messages before `to` are entered, once they are written.
    pub(crate) fn cover_light(&self, to: LogOffset) -> io::Result<()> {
        self.shared.light.as_ref().map_or(Ok(()), |log| log.cover(to.0))
    }

    /// Syncs the state of the light queues, and removes the directories that a Java broker left: the light log has what they had.
    pub(crate) fn replace_foreign_light(&self) -> io::Result<()> {
        let is_due = !self.light.foreign.lock().is_empty();
        match self.shared.light.as_ref().filter(|_| is_due) {
            Some(log) => log.snapshot_now(&self.all_light()).and_then(|()| self.remove_foreign_light()),
            None => Ok(()),
        }
    }

    /// Removes the directories of light queues that a Java broker, or an interrupted export, left.
    fn remove_foreign_light(&self) -> io::Result<()> {
        let mut foreign = self.light.foreign.lock();
        if foreign.is_empty() {
            return Ok(());
        }
        for (name, _) in &*foreign {
            self.shared.disk.remove_dir_all(&self.shared.dir.join(&**name))?;
        }
        self.shared.disk.sync_dir(&self.shared.dir)?;
        foreign.clear();
        Ok(())
    }

    /// Retention, for all light queues. They are visited only when the log's first offset has changed.
    pub(in crate::queue) fn raise_light_min(&self, log_min: LogOffset) -> io::Result<usize> {
        let Some(log) = &self.shared.light else { return Ok(0) };
        if self.light.visited_for.load(Ordering::Relaxed) >= log_min.0 {
            return Ok(0);
        }
        for queue in self.all_light() {
            queue.raise_light_min(log, log_min)?;
        }
        let removed = log.remove_before(log_min.0, &|| self.all_light())?;
        self.light.visited_for.store(log_min.0, Ordering::Relaxed);
        Ok(removed)
    }

    /// Writes the light queues of the list, and takes them out of it. Returns those to be visited again, and the outcome.
    pub(in crate::queue) fn write_light(&self, visiting: &mut Vec<Arc<ConsumeQueue>>) -> (Vec<Arc<ConsumeQueue>>, io::Result<()>) {
        let Some(log) = &self.shared.light else {
            return (Vec::new(), Ok(()));
        };
        let mut light: Vec<_> = visiting.extract_if(.., |queue| queue.is_light()).collect();
        let outcome = log.write(&light);
        light.retain(|queue| !queue.rest());
        (light, outcome)
    }

    /// Writes each light queue as a consume queue of its own, as Java brokers keep them, and removes the light log. The table must not be
    /// used afterwards.
    ///
    /// # Errors
    /// [`io::Error`] if files cannot be read or written. The light log is there then: repeat the call.
    pub(crate) fn export_light(&self) -> io::Result<usize> {
        let Some(log) = &self.shared.light else { return Ok(0) };
        let queues = self.all_light();
        log.mark_export()?;
        for light in &queues {
            let dir = self.shared.dir.join(light.topic());
            self.shared.disk.remove_dir_all(&dir)?;
            let files = QueueFiles::new(Arc::clone(&self.shared), Arc::clone(light.name()), 0);
            let queue = Arc::new(ConsumeQueue::fresh(files));
            let (mut at, max) = (light.min(), light.max());
            let mut entries = Vec::new();
            let mut buffer = Vec::new();
            queue.restart(at.0)?;
            if at == max && max.0 > 0 {
                // Keeps the queue's offset.
                queue.restart(max.0 - 1)?;
                queue.publish(Entry::BLANK);
                queue.write_pending(&mut buffer)?;
            }
            while at < max {
                entries.clear();
                light.read(at, EXPORT_ENTRIES, &mut entries)?;
                if entries.is_empty() {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("light queue {} has no entry at {at}", light.topic()),
                    ));
                }
                at = at.plus(entries.len());
                entries.drain(..).for_each(|entry| queue.publish(entry));
                queue.write_pending(&mut buffer)?;
            }
            queue.sync()?;
            self.shared.disk.sync_dir(&dir).or_else(|error| match error.kind() {
                // A queue without messages has no files.
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
        self.shared.disk.sync_dir(&self.shared.dir)?;
        log.reset()?;
        Ok(queues.len())
    }

    /// Begins to delete light queues, see [`LightDeletion`]. Waits for other work on queues' files, and keeps it waiting.
    pub(crate) fn begin_light_deletion(&self) -> LightDeletion<'_> {
        LightDeletion {
            _maintenance: self.lock_maintenance(),
            table: self,
            queues: Vec::new(),
        }
    }

    pub(in crate::queue) fn note_light_deleted(&self, queues: &[Arc<ConsumeQueue>]) -> io::Result<()> {
        let Some(log) = &self.shared.light else { return Ok(()) };
        queues
            .iter()
            .filter(|queue| queue.is_light())
            .try_for_each(|queue| log.delete(queue))
    }
}

/// The deletion of many light queues.
#[derive(Debug)]
pub(crate) struct LightDeletion<'t> {
    _maintenance: MutexGuard<'t, Maintenance>,
    table: &'t QueueTable,
    queues: Vec<Arc<ConsumeQueue>>,
}

impl LightDeletion<'_> {
    /// Removes a queue from the table if its next offset is still `max`; it assigns no more offsets. Only under the log's append lock.
    pub(crate) fn retire(&mut self, queue: &Arc<ConsumeQueue>, max: i64) -> bool {
        let mut by_name = self.table.light.by_name.write();
        let is_current = by_name.get(queue.topic()).is_some_and(|current| Arc::ptr_eq(current, queue));
        if !is_current || queue.assigned().0 != max {
            return false;
        }
        by_name.remove(queue.topic());
        drop(by_name);
        queue.retire();
        self.queues.push(Arc::clone(queue));
        true
    }

    /// Drops the entries of the queues, once all assigned ones are published. Returns how many queues it were.
    ///
    /// # Errors
    /// [`io::Error`] if the light log cannot be written.
    pub(crate) fn end(self) -> io::Result<usize> {
        self.queues.iter().for_each(|queue| queue.abandon());
        self.table.note_light_deleted(&self.queues)?;
        Ok(self.queues.len())
    }
}
