import type { BackendWish } from '../domain/task.js';
import { suggestion } from './faults.js';
import { refusal } from './problems.js';
import type { FleetView } from './waiting.js';

/** A backend named by id or name must exist, whatever its state; labels may match one that comes later. */
export async function checkWish(fleetView: FleetView, wish: BackendWish, pointer: string): Promise<void> {
  if (wish.id === undefined && wish.name === undefined) return;
  // One that was added a moment ago may not be in the picture yet: only a fresh one may refuse.
  if (isKnown(wish, await fleetView())) return;
  const fleet = await fleetView(0);
  if (isKnown(wish, fleet)) return;
  const living = fleet.backends.filter(({ deletedAt }) => deletedAt === null);
  const byId = wish.id !== undefined && !living.some(({ id }) => id === wish.id);
  const asked = (byId ? wish.id : wish.name) ?? '';
  const near = suggestion(
    asked,
    living.map((backend) => (byId ? backend.id : backend.name)),
  );
  const detail = `backend ${JSON.stringify(asked)} is not known${near}`;
  const errors = [{ pointer: `${pointer}/${byId ? 'id' : 'name'}`, detail }];
  throw refusal('unknown_backend', `${detail}${near === '' ? '; GET /v1/backends lists them' : ''}`, {
    errors,
  });
}

function isKnown(wish: BackendWish, fleet: Awaited<ReturnType<FleetView>>): boolean {
  return fleet.backends.some(
    ({ id, name, deletedAt }) =>
      deletedAt === null &&
      (wish.id === undefined || wish.id === id) &&
      (wish.name === undefined || wish.name === name),
  );
}
