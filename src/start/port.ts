import { once } from 'node:events';
import { createServer } from 'node:net';

/** Why nobody can listen there, as a sentence that names the variable to change; null when it is free. */
export async function findPortFault(port: number, host: string): Promise<string | null> {
  const server = createServer();
  try {
    // `exclusive` asks for the port itself and not for a share of it.
    server.listen({ port, host, exclusive: true });
    await once(server, 'listening');
    server.close();
    await once(server, 'close');
    return null;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE') {
      return `port ${port} on ${host} is taken by another program. Fix: set PORT, for example PORT=${port + 1} npm start`;
    }
    if (code === 'EACCES')
      return `port ${port} needs more rights than this account has. Fix: set PORT to 1024 or more`;
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
      return `this machine has no address ${host}. Fix: set HOST, for example HOST=127.0.0.1`;
    }
    return `nothing can listen on ${host}:${port} (${message}). Fix: set HOST and PORT`;
  }
}
