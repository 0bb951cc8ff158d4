"""What operators keep and do: lists of devices, codes, batches, stations, people, blocked keys, the trail."""
