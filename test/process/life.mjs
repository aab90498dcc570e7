/** A process that does what its first argument says, to look at how runProcess ends it. */
import { runProcess } from '../../dist/src/process.js';

const manner = process.argv[2];

runProcess('fixture', async ({ logger, onClose, onDrain, signal }) => {
  onDrain(() => logger.info('fixture.drained', { aborted: signal.aborted }));
  onClose('first', () => logger.info('fixture.closed', { step: 'first' }));
  onClose('second', () => {
    logger.info('fixture.closed', { step: 'second' });
    if (manner === 'hang') return new Promise(() => undefined);
    if (manner === 'spoil') throw new Error('spoilt');
  });
  const timer = setInterval(() => undefined, 1000);
  onClose('timer', () => clearInterval(timer));
  if (manner === 'throw') throw new Error('could not start');
  if (manner === 'reject') setTimeout(() => void Promise.reject(new Error('nobody caught this')), 10);
});
