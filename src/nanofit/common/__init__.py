"""What every room uses: errors, events, locks, durable writing, quantities. Imports nothing of nanofit."""
